"""Land-cover maps from few, coarse or borrowed labels.

The public functions are loaded when they are first used, so that `import covermap` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from covermap.api import (
        FewShotOptions,
        FewShotTrial,
        TrainingRun,
        adapt_few_shot,
        adapt_prior,
        check_dataset,
        evaluate,
        evaluate_bundle,
        evaluate_few_shot,
        evaluate_predictions,
        import_checkpoint,
        map_raster,
        predict,
        prepare,
        train,
    )
    from covermap.errors import CovermapError
    from covermap.legend import Legend, load_legend
    from covermap.mapping.settings import MapSettings
    from covermap.models.bundle import Bundle
    from covermap.raster.scene import Scene, open_scene
    from covermap.recipes import Recipe, load_recipe
    from covermap.sensors import Sensor, load_sensor

_PLACES = {
    "Bundle": "covermap.models.bundle",
    "CovermapError": "covermap.errors",
    "FewShotOptions": "covermap.api",
    "FewShotTrial": "covermap.api",
    "Legend": "covermap.legend",
    "MapSettings": "covermap.mapping.settings",
    "Recipe": "covermap.recipes",
    "Scene": "covermap.raster.scene",
    "Sensor": "covermap.sensors",
    "TrainingRun": "covermap.api",
    "adapt_few_shot": "covermap.api",
    "adapt_prior": "covermap.api",
    "check_dataset": "covermap.api",
    "evaluate": "covermap.api",
    "evaluate_bundle": "covermap.api",
    "evaluate_few_shot": "covermap.api",
    "evaluate_predictions": "covermap.api",
    "import_checkpoint": "covermap.api",
    "load_legend": "covermap.legend",
    "load_recipe": "covermap.recipes",
    "load_sensor": "covermap.sensors",
    "map_raster": "covermap.api",
    "open_scene": "covermap.raster.scene",
    "predict": "covermap.api",
    "prepare": "covermap.api",
    "train": "covermap.api",
}

__all__ = [
    "Bundle",
    "CovermapError",
    "FewShotOptions",
    "FewShotTrial",
    "Legend",
    "MapSettings",
    "Recipe",
    "Scene",
    "Sensor",
    "TrainingRun",
    "__version__",
    "adapt_few_shot",
    "adapt_prior",
    "check_dataset",
    "evaluate",
    "evaluate_bundle",
    "evaluate_few_shot",
    "evaluate_predictions",
    "import_checkpoint",
    "load_legend",
    "load_recipe",
    "load_sensor",
    "map_raster",
    "open_scene",
    "predict",
    "prepare",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
