"""The functions of `import covermap`: what the commands do, for Python.

`train` makes a bundle, `adapt_few_shot` and `adapt_prior` make another of it, `map_raster` and
`predict` use it, `evaluate` scores what they made.
"""

from covermap.api.adapting import FewShotOptions, adapt_few_shot, adapt_prior
from covermap.api.assessing import evaluate, evaluate_bundle, evaluate_predictions
from covermap.api.few_shot import FewShotTrial, evaluate_few_shot
from covermap.api.mapping import map_raster, predict, records_of
from covermap.api.training import TrainingRun, check_dataset, data_section, prepare, train
from covermap.models.bundle import Bundle
from covermap.models.importers import import_checkpoint

__all__ = [
    "Bundle",
    "FewShotOptions",
    "FewShotTrial",
    "TrainingRun",
    "adapt_few_shot",
    "adapt_prior",
    "check_dataset",
    "data_section",
    "evaluate",
    "evaluate_bundle",
    "evaluate_few_shot",
    "evaluate_predictions",
    "import_checkpoint",
    "map_raster",
    "predict",
    "prepare",
    "records_of",
    "train",
]
