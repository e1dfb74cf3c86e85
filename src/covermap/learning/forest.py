"""Random forests of pixels: what to begin with where there is no GPU.

Breiman 2001 ("Random Forests", Machine Learning 45), grown by scikit-learn on bands, indices, blur
and texture (`covermap.models.pixel_features`). The forest becomes a network like any other
(`covermap.models.forest`), so the bundle maps through the same engine.

Where labels are coarse or wrong, further rounds learn without the samples whose label the forest
itself doubts: trees vote on the samples that they have not seen, and a sample goes whose label gets
less than `doubt` of the votes of the most probable class. So a forest ensemble with refined samples
won track 2 of the IEEE GRSS data fusion contest of 2020.
"""

from __future__ import annotations

import importlib.metadata
import logging
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from covermap.data.collection import Collection, Datasets
from covermap.data.patches import EvaluationPatches
from covermap.errors import ConfigError, InputError, require
from covermap.learning.assembling import common_legend, library_versions, provenance
from covermap.learning.evaluation import Stage, evaluate
from covermap.learning.forest_config import ForestConfig
from covermap.learning.forest_samples import CORE, Samples, draw_samples
from covermap.learning.forest_trees import plant
from covermap.learning.keeping import identity
from covermap.learning.loading import evaluation_loader
from covermap.learning.preparing import Prepared, prepare
from covermap.learning.run import RunDirectory
from covermap.learning.weighting import class_weights
from covermap.models.bundle import BandNorm, Bundle
from covermap.models.forest import ForestSegmenter
from covermap.models.pixel_features import PixelFeatures, find_indices
from covermap.progress import SILENT, Progress

__all__ = ["ForestConfig", "grow", "train", "trusted"]

_LOG = logging.getLogger(__name__)
_GIB = 1 << 30
_POWERS = {"none": 1.0, "sqrt": 0.5, "classes": 0.0}


def train(
    config: ForestConfig,
    data: Datasets,
    start: Bundle | None,
    run: RunDirectory,
    progress: Progress = SILENT,
) -> Bundle:
    """Grow a random forest on labelled imagery.

    A run that was interrupted begins anew, with what was measured of its data; one that has ended
    gives its bundle.

    Args:
        config: the settings.
        data: what to learn from; its validation part is only scored.
        start: must be None, since forests start from nothing.
        run: where everything is kept.
        progress: shows what is under way.

    Returns:
        The bundle, also written to `run.bundle_path`; its provenance holds the validation scores.

    Raises:
        ConfigError: settings do not go together, or differ from those that the run began with.
        InputError: the data cannot be read, or holds no labels.
        OutputError: a result cannot be written.
        MissingExtraError: the extra `sklearn` is not installed.
    """
    require("sklearn", "sklearn")
    if start is not None:
        raise ConfigError("A forest starts from nothing: leave out the bundle to start from.")
    prepared = prepare(config, data, None, run, progress)
    settings = identity(config)
    _check_settings(settings, run)
    if run.bundle_path.exists():
        return Bundle.load(run.bundle_path)
    run.log({"event": "start", "settings": settings, "versions": _versions()})
    legend = common_legend(data)
    features = choose_features(config, prepared)
    weights = class_weights(config.class_weights, legend, prepared.counts)
    samples = _draw(config, data.train, prepared, features, np.array(weights) > 0, progress)
    forest = _grow_rounds(config, samples, weights, run, progress)
    network = plant(forest, features, prepared.bands, legend.names)
    learned = tuple(legend.names[k] for k in forest.classes_)
    bundle = _bundle(config, data, prepared, network, learned)
    if data.val is not None:
        scores = _score(config, data.val, bundle, features, progress)
        source = bundle.card.provenance.model_copy(update={"scores": {"val": scores}})
        bundle = bundle.with_card(provenance=source.model_dump())
    bundle.save(run.bundle_path)
    scores = bundle.card.provenance.scores.get("val", {})
    run.log({"event": "end", "reason": "finished", "learned": learned, "val": scores})
    return bundle


def _check_settings(settings: dict[str, Any], run: RunDirectory) -> None:
    """Refuse to go on with other settings than the run began with."""
    begun = [event["settings"] for event in run.events() if event.get("event") == "start"]
    before = begun[-1] if begun else settings
    changed = [
        f"{name} was {before.get(name)!r}, is {settings.get(name)!r}"
        for name in sorted({*before, *settings})
        if before.get(name) != settings.get(name)
    ]
    if changed:
        raise ConfigError(
            f"{run.path}: the run cannot go on with other settings than it began with: "
            f"{'; '.join(changed)}. Set them back, or start a new run."
        )


def choose_features(config: ForestConfig, prepared: Prepared) -> PixelFeatures:
    """What describes a pixel, from the settings and the bands.

    Args:
        config: the settings.
        prepared: knows the bands and their normalisation.

    Returns:
        The features.

    Raises:
        ConfigError: an index is asked for that the bands do not allow.
    """
    wanted = None if config.indices == "auto" else config.indices
    indices = find_indices(prepared.bands, wanted)
    _LOG.info("indices: %s", ", ".join(indices) or "none")
    return PixelFeatures(
        mean=tuple(band.mean for band in prepared.bands),
        std=tuple(band.std for band in prepared.bands),
        indices=tuple(indices.values()),
        blurs=config.blurs,
        textures=config.textures,
    )


def _patches(
    config: ForestConfig,
    collection: Collection,
    bands: tuple[BandNorm, ...],
    reach: int,
    progress: Progress,
) -> EvaluationPatches:
    names = [band.name for band in bands]
    side, cache = CORE + 2 * reach, int(config.cache * _GIB)
    return EvaluationPatches(collection, names, side, reach, cache, progress=progress)


def _draw(
    config: ForestConfig,
    collection: Collection,
    prepared: Prepared,
    features: PixelFeatures,
    wanted: npt.NDArray[np.bool_],
    progress: Progress,
) -> Samples:
    samples = draw_samples(
        _patches(config, collection, prepared.bands, features.reach, progress),
        features,
        prepared.bands,
        samples=config.samples,
        windows=config.windows,
        power=_POWERS[config.balance],
        wanted=wanted,
        seed=config.seed,
        progress=progress,
    )
    if not len(samples):
        raise InputError(
            f"{collection.index.root}: no labelled pixel of a class to learn lies where all bands "
            "are valid. Check nodata, bands and class_weights."
        )
    return samples


def _grow_rounds(
    config: ForestConfig,
    samples: Samples,
    weights: tuple[float, ...],
    run: RunDirectory,
    progress: Progress,
) -> Any:
    """Grow one forest after the other, each on the samples that the last one does not doubt."""
    now = samples
    forest: Any = None
    with progress.task("grow forest", config.rounds) as task:
        for number in range(1, config.rounds + 1):
            last = number == config.rounds
            forest = grow(config, now, weights, out_of_bag=not last)
            event = {"event": "round", "round": number, "samples": len(now)}
            run.log({**event, "per_class": now.counts(len(weights)).tolist()})
            if not last:
                # A sample that went does not come back: this round's forest has not seen it.
                votes = forest.oob_decision_function_
                column = np.searchsorted(forest.classes_, now.labels)
                now = now.where(trusted(votes, column, config.doubt, config.keep))
            task.advance()
    return forest


def grow(
    config: ForestConfig,
    samples: Samples,
    weights: tuple[float, ...],
    *,
    out_of_bag: bool = False,
) -> Any:
    """Grow one forest.

    Args:
        config: the settings.
        samples: what to learn from.
        weights: (K,) weights of the classes.
        out_of_bag: whether to let trees vote on the samples that they have not seen.

    Returns:
        The fitted `RandomForestClassifier` of scikit-learn.

    Raises:
        MissingExtraError: the extra `sklearn` is not installed.
    """
    ensemble = require("sklearn.ensemble", "sklearn")
    present = np.unique(samples.labels).tolist()
    chosen = {k: weights[k] for k in present}
    forest = ensemble.RandomForestClassifier(
        n_estimators=config.trees,
        max_leaf_nodes=config.max_leaves,
        max_depth=config.max_depth,
        min_samples_leaf=config.min_leaf,
        max_features=config.max_features,
        class_weight=None if set(chosen.values()) == {1.0} else chosen,
        oob_score=out_of_bag,
        n_jobs=-1 if config.workers == "auto" else config.workers,
        random_state=config.seed,
    )
    with warnings.catch_warnings():
        # Of few trees some may have seen all: such a sample has no votes, and stays.
        warnings.filterwarnings("ignore", message="Some inputs do not have OOB scores")
        warnings.filterwarnings("ignore", category=RuntimeWarning, module="sklearn")
        return forest.fit(samples.features, samples.labels)


def trusted(
    votes: npt.NDArray[np.float64], column: npt.NDArray[np.int64], doubt: float, keep: float
) -> npt.NDArray[np.bool_]:
    """Which samples a forest does not doubt.

    A sample is doubted where the votes for its label are below `doubt` times the votes for the
    most probable class; of each class, the least doubted are trusted up to the share `keep`.

    Args:
        votes: (N, K) float, shares of the classes from trees that have not seen the sample; NaN
            where there are no such trees, which is no doubt.
        column: (N,) int64, column of each sample's label.
        doubt: 0 to 1.
        keep: 0 to 1.

    Returns:
        (N,) bool.
    """
    own = votes[np.arange(len(votes)), column]
    top = np.maximum(votes.max(1), np.finfo(np.float64).tiny)
    belief = np.nan_to_num(own / top, nan=1.0)
    found: npt.NDArray[np.bool_] = belief >= doubt
    for label in np.unique(column):
        of_class = np.flatnonzero(column == label)
        order = of_class[np.argsort(-belief[of_class], kind="stable")]
        found[order[: int(np.ceil(keep * len(order)))]] = True
    return found


def _versions() -> dict[str, str]:
    return {**library_versions(), "scikit-learn": importlib.metadata.version("scikit-learn")}


def _bundle(
    config: ForestConfig,
    data: Datasets,
    prepared: Prepared,
    network: ForestSegmenter,
    learned: tuple[str, ...],
) -> Bundle:
    legend = common_legend(data)
    return Bundle.create(
        network,
        legend=legend,
        bands=prepared.bands,
        sensor="" if data.train.sensor is None else data.train.sensor.name,
        gsd=prepared.gsd,
        learned=None if len(learned) == len(legend) else learned,
        tile=config.tile,
        margin=config.margin,
        blend=config.blend,
        provenance={
            **provenance(config.recipe, config.licence, prepared),
            "versions": _versions(),
        },
    )


def _score(
    config: ForestConfig,
    collection: Collection,
    bundle: Bundle,
    features: PixelFeatures,
    progress: Progress,
) -> dict[str, Any]:
    """Score a forest on validation records."""
    patches = _patches(config, collection, bundle.bands, features.reach, progress)
    loader = evaluation_loader(patches, len(patches), 1, 0)
    stage = Stage(bundle.bands, bundle.learned)
    with progress.task("validate", len(patches)) as task:
        found = evaluate(bundle.model, loader, len(bundle.legend), stage, advance=task.advance)
    return found.matrix.scores(bundle.legend.names, bundle.learned.tolist()).to_dict()
