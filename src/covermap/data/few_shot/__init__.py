"""Few-shot benchmarks: each is read into an `Episode` (`covermap.data.episodes`)."""

from covermap.data.few_shot.folds import fold_episode
from covermap.data.few_shot.legends import fold_legend, training_legend
from covermap.data.few_shot.oem import oem_episode, oem_legend

__all__ = ["fold_episode", "fold_legend", "oem_episode", "oem_legend", "training_legend"]
