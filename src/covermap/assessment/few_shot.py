"""Scoring few-shot methods on an episode, as the field's benchmarks do.

The support's features are taken once. A method that adapts itself to what it segments gets the
queries batch by batch; any other makes one classifier for all of them. Probabilities are enlarged
from the grid of the features to the image and the most likely of all classes is the prediction.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from covermap.assessment.few_shot_scores import Absent, FewShotScores
from covermap.data.canvas import restore
from covermap.data.episodes import Episode, FewShotImage, FewShotPair, read_pair, read_support
from covermap.data.files import some
from covermap.data.sample import Sample
from covermap.errors import BandError, BundleError, ConfigError, InputError, LegendError
from covermap.learning.diam_config import DiamConfig
from covermap.learning.few_shot import FewShotResult
from covermap.learning.few_shot_bundle import METHODS, linear_part, method_config
from covermap.learning.few_shot_features import CPU, Extracted, lent_to, take_features
from covermap.legend import IGNORE, Legend
from covermap.models.bundle import Bundle
from covermap.models.tta import check_tta, turn, turn_back
from covermap.progress import SILENT, Progress
from covermap.raster.writing import write_bytes_atomic
from covermap.scores import ConfusionMatrix

At = Literal["canvas", "image"]
"""Where predictions meet labels: on the canvas, or at the image's own size."""

SHARED = 16
"""So many queries are drawn to adapt a classifier that all queries share."""

RGB = ("red", "green", "blue")


@dataclass(frozen=True, eq=False)
class _Query:
    item: FewShotImage
    pair: FewShotPair
    sample: Sample


def evaluate_episode(
    bundle: Bundle,
    episode: Episode,
    *,
    method: str = "diam",
    config: Any = None,
    size: int | None = None,
    at: At = "canvas",
    absent: Absent = "zero",
    batch: int = 4,
    tta: str = "none",
    keep: Path | None = None,
    device: torch.device | None = None,
    progress: Progress = SILENT,
) -> FewShotScores | None:
    """Adapt a bundle to the support of an episode, segment its queries, and score them.

    With `config.shared`, one classifier is adapted to a drawn sample of 16 queries. The labels of
    queries are looked at by the marginals upperbound and image_level, and for the scores.

    Args:
        bundle: knows background and base classes of the episode, by these names in any order.
        episode: support and queries.
        method: one of `METHODS`.
        config: its settings, as from `method_config(…, published=True)`, which is the default.
        size: side of the canvas that images are brought to; None for their own size.
        at: where predictions meet labels; the same without a canvas.
        absent: what a class that is in neither labels nor predictions counts.
        batch: queries that are adapted to side by side; changes no result.
        tta: `none`, or `d4` for the mean over the eight turns of each query.
        keep: folder for predictions as PNG files of the legend's values, called by the image's name
            up to its first dot: `preds` at the image's own size, 255 where it has no imagery;
            `preds_SIZE` on the canvas, background around the picture; `targets`, the labels.
        device: where to compute; the CPU by default.
        progress: shows what is under way.

    Returns:
        The scores; None where no query has a label.

    Raises:
        LegendError: the bundle knows other classes.
        BandError: the bundle wants other bands than red, green, blue.
        BundleError: its classifier is not linear, or has not learned a class.
        InputError: files cannot be read, images do not fit, or there is no query.
        ConfigError: a setting is not valid, or two kept predictions would have the same name.
        OutputError: a prediction cannot be written.
    """
    config = method_config(method, {}, published=True) if config is None else config
    check_tta(tta)
    _check(episode, config, at, absent, batch, keep)
    device = device or CPU
    matrix, scored = ConfusionMatrix(len(episode.legend)), 0
    with lent_to(device, bundle.model):
        learner = _Learner(bundle, episode, method, config, size, device, progress)
        with progress.task(episode.name, len(episode.queries)) as task:
            for queries in learner.batches(episode.queries, batch):
                for query, classes in zip(queries, learner.segment(queries, tta), strict=True):
                    truth = query.pair.label if at == "canvas" else _own(query, episode.legend)
                    if truth is not None:
                        found = classes if at == "canvas" else _restored(query, classes)
                        matrix.update(truth, found)
                        scored += 1
                    if keep is not None:
                        _keep(keep, query, classes, episode.legend, size)
                    task.advance(note=query.item.id)
    if not scored:
        return None
    novel = len(episode.novel)
    return FewShotScores(episode.name, episode.legend, novel, matrix, scored, absent)


def base_rows(bundle: Bundle, episode: Episode) -> tuple[Tensor, Tensor]:
    """The bundle's classifier in the order of an episode's background and base classes.

    Args:
        bundle: knows exactly these classes.
        episode: names them.

    Returns:
        weight (K_b, C) float32 and bias (K_b,) float32.

    Raises:
        LegendError: it knows other classes.
        BundleError: its classifier is not linear, or has not learned one of them.
    """
    wanted = episode.legend.names[: 1 + len(episode.base)]
    known = {name.casefold(): row for row, name in enumerate(bundle.legend.names)}
    lost = [name for name in wanted if name.casefold() not in known]
    spare = [n for n in bundle.legend.names if n.casefold() not in {w.casefold() for w in wanted}]
    if lost or spare:
        parts = [f"lacks {some(lost)}"] * bool(lost) + [f"also has {some(spare)}"] * bool(spare)
        raise LegendError(
            f"The legend {bundle.legend.name!r} of the bundle {' and '.join(parts)}; the episode "
            f"{episode.name} needs its background ({wanted[0]}) and {len(wanted) - 1} base classes "
            "and nothing else. Use the bundle of this fold or phase, trained on its base classes."
        )
    rows = [known[name.casefold()] for name in wanted]
    unseen = [name for name, row in zip(wanted, rows, strict=True) if not bundle.learned[row]]
    if unseen:
        raise BundleError(
            f"The bundle has not learned {some(unseen)}, so few-shot methods have no row to start "
            "from. Train it with data of all base classes and of the background."
        )
    weight, bias = linear_part(bundle)
    return weight[rows], bias[rows]


class _Learner:
    """A method with the support of an episode."""

    def __init__(
        self,
        bundle: Bundle,
        episode: Episode,
        method: str,
        config: Any,
        size: int | None,
        device: torch.device,
        progress: Progress,
    ) -> None:
        if sorted(bundle.band_names) != sorted(RGB):
            raise BandError(
                f"The bundle wants the bands {', '.join(bundle.band_names)}; images of few-shot "
                "benchmarks have red, green and blue. Use a bundle that was trained on these."
            )
        self._bundle, self._episode, self._method, self._config = bundle, episode, method, config
        self._size, self._device = size, device
        self._home = device if isinstance(config, DiamConfig) else CPU
        self._order = [RGB.index(name) for name in bundle.band_names]
        weight, bias = base_rows(bundle, episode)
        self._weight, self._bias = weight.to(self._home), bias.to(self._home)
        shown = [self._sample(pair) for pair in read_support(episode, size)]
        self._support = take_features(bundle, shown, device, self._home, progress, "support")
        self._common: FewShotResult | None = None
        if not isinstance(config, DiamConfig) or config.shared:
            self._common = self._adapt(*self._drawn())

    def _sample(self, pair: FewShotPair) -> Sample:
        label = None if pair.label is None else pair.label.astype(np.int64)
        return Sample(pair.image[self._order].astype(np.float32), pair.valid, label)

    def _read(self, item: FewShotImage) -> _Query:
        pair = read_pair(item, self._episode.legend, self._size)
        return _Query(item, pair, self._sample(pair))

    def _drawn(self) -> tuple[list[_Query], Extracted]:
        """The queries that a common classifier is adapted to."""
        known = self._episode.queries
        count = SHARED if isinstance(self._config, DiamConfig) else 1
        places = np.random.default_rng(0).permutation(len(known))[:count]
        queries = [self._read(known[place]) for place in sorted(places.tolist())]
        return queries, self._features([query.sample for query in queries])

    def _features(self, samples: Sequence[Sample]) -> Extracted:
        return take_features(self._bundle, samples, self._device, self._home)

    def _adapt(self, queries: Sequence[_Query], found: Extracted) -> FewShotResult:
        try:
            return METHODS[self._method].adapt(
                self._support.features,
                self._support.labels,
                found.features,
                self._weight,
                self._bias,
                novel_classes=self._episode.novel,
                config=self._config,
                query_valid=found.valid,
                query_labels=found.labels,
            )
        except InputError as error:
            names = some([str(query.item.image) for query in queries])
            raise InputError(f"{self._episode.name}, queries {names}: {error}") from error

    def batches(self, items: Sequence[FewShotImage], most: int) -> Iterator[list[_Query]]:
        """Read queries, up to so many of one size at a time."""
        held: list[_Query] = []
        for item in items:
            query = self._read(item)
            if held and (len(held) == most or query.sample.shape != held[0].sample.shape):
                yield held
                held = []
            held.append(query)
        yield held

    def segment(self, queries: Sequence[_Query], tta: str) -> list[npt.NDArray[np.uint8]]:
        """Class indices of queries of one size: (H, W) uint8 each."""
        samples = [query.sample for query in queries]
        found = self._features(samples)
        result = self._common or self._adapt(queries, found)
        total = _probabilities(result, found, samples[0].shape)
        for element in range(1, 8) if tta == "d4" else ():
            turned = [_turned(sample, element) for sample in samples]
            view = _probabilities(result, self._features(turned), turned[0].shape)
            total += turn_back(view, element)
        return list(total.argmax(1).to(torch.uint8).cpu().numpy())


def _probabilities(result: FewShotResult, found: Extracted, shape: tuple[int, int]) -> Tensor:
    """(T, K, H, W), without the padding that the network needs."""
    padded = (found.valid.shape[1], found.valid.shape[2])
    return result.probabilities(found.features, padded)[..., : shape[0], : shape[1]]


def _turned(sample: Sample, element: int) -> Sample:
    image, valid = (
        np.ascontiguousarray(turn(torch.from_numpy(array), element).numpy())
        for array in (sample.image, sample.valid)
    )
    return replace(sample, image=image, valid=valid, label=None)


def _own(query: _Query, legend: Legend) -> npt.NDArray[np.uint8] | None:
    """The label at the image's own size."""
    if query.item.label is None or query.pair.image.shape[1:] == query.pair.shape:
        return query.pair.label
    return read_pair(query.item, legend).label


def _restored(query: _Query, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return restore(array, query.pair.content, query.pair.shape)


def _keep(
    folder: Path, query: _Query, classes: npt.NDArray[np.uint8], legend: Legend, size: int | None
) -> None:
    """Write what was predicted and what is true."""
    name, valid = _file_name(query.item), query.pair.valid
    known = np.where(valid, classes, np.uint8(IGNORE))
    files = {"preds": _restored(query, known), "targets": _own(query, legend)}
    if size is not None:
        files[f"preds_{size}"] = np.where(valid, classes, np.uint8(0))
    for part, values in files.items():
        if values is not None:
            buffer = io.BytesIO()
            Image.fromarray(legend.decode(values)).save(buffer, "PNG")
            write_bytes_atomic(folder / part / name, buffer.getvalue())


def _file_name(item: FewShotImage) -> str:
    return f"{item.image.name.split('.')[0]}.png"


def _check(
    episode: Episode, config: Any, at: str, absent: str, batch: int, keep: Path | None
) -> None:
    """Refuse what could only fail later."""
    if at not in At.__args__ or absent not in Absent.__args__ or batch < 1:  # type: ignore[attr-defined]
        raise ConfigError(
            f"at is {at!r}, absent {absent!r}, batch {batch}; expected canvas or image, zero or "
            "skip, and at least 1."
        )
    if not episode.queries:
        raise InputError(f"The episode {episode.name} has no queries; there is nothing to segment.")
    if isinstance(config, DiamConfig) and config.marginal in ("upperbound", "image_level"):
        bare = [item.id for item in episode.queries if item.label is None]
        if bare:
            raise InputError(
                f"The marginal {config.marginal} looks at the labels of queries, and there is none "
                f"of {some(bare)}. Use the marginal self or uniform."
            )
    names = Counter(_file_name(item) for item in episode.queries)
    twice = [name for name, count in names.items() if count > 1]
    if keep is not None and twice:
        raise ConfigError(
            f"Several predictions of {episode.name} would be called {some(twice)}, since names end "
            "at the first dot. Rename these images, or keep no predictions."
        )
