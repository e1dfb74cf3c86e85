"""Few-shot benchmarks: each is read into an `Episode` (`covermap.data.episodes`)."""

from covermap.data.few_shot.folds import fold_episode
from covermap.data.few_shot.legends import training_legend, fold_legend
from covermap.data.few_shot.oem import oem_episode, oem_legend

__all__ = ["training_legend", "fold_episode", "fold_legend", "oem_episode", "oem_legend"]
