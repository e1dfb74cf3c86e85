"""Episodes scored end to end against predictions and IoUs worked out with plain NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from covermap.assessment.few_shot import base_rows, evaluate_episode
from covermap.data.episodes import Episode, FewShotImage, read_pair, read_support
from covermap.errors import BandError, BundleError, ConfigError, InputError, LegendError
from covermap.learning import diam
from covermap.learning.diam_config import DiamConfig
from covermap.learning.few_shot_bundle import method_config
from covermap.legend import LandClass, Legend
from covermap.models.bundle import BandNorm, Bundle
from covermap.models.registry import build
from covermap.models.segmenter import LinearSegmenter, ModelSpec

SIDE = 48
MEAN, STD = 100.0, 50.0
COLORS = np.array([[90, 60, 60], [60, 180, 60], [200, 60, 60], [60, 60, 200], [180, 180, 60]])
LEGEND = Legend(
    "few",
    tuple(
        LandClass(value, name, (value, 0, 0))
        for value, name in ((0, "other"), (3, "grass"), (5, "roof"), (9, "lake"), (7, "road"))
    ),
)


def draw(seed: int, classes: Sequence[int], shape: tuple[int, int] = (SIDE, SIDE)) -> Any:
    """An image of rectangles of some classes, and the class of each pixel."""
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, np.uint8)
    for number, index in enumerate(classes):
        top, left = (number * 11 + 3) % 30, (number * 17 + 2) % 30
        label[top : top + 16, left : left + 15] = index
    image = COLORS[label] + rng.integers(-35, 36, (*shape, 3))
    return np.clip(image, 0, 255).astype(np.uint8), label


def write(root: Path, name: str, image: Any, label: Any = None) -> FewShotImage:
    """Write PNG files; label codes are the legend's values, 255 in the first two rows."""
    Image.fromarray(image).save(root / f"{name}.png")
    if label is None:
        return FewShotImage(name, root / f"{name}.png")
    codes = np.array(LEGEND.values, np.uint8)[label]
    codes[:2] = 255
    Image.fromarray(codes).save(root / f"{name}_label.png")
    return FewShotImage(name, root / f"{name}.png", root / f"{name}_label.png")


@pytest.fixture
def episode(tmp_path: Path) -> Episode:
    """Two shots of two novel classes; three labelled queries, one of them not square."""
    support = {
        name: tuple(
            write(tmp_path, f"{name}{shot}", *draw(10 * novel + shot, [1, 2, novel]))
            for shot in range(2)
        )
        for name, novel in (("lake", 3), ("road", 4))
    }
    queries = (
        write(tmp_path, "q0", *draw(0, [1, 2, 3, 4])),
        write(tmp_path, "q1", *draw(1, [4, 1, 3], (40, SIDE))),
        write(tmp_path, "q2", *draw(2, [2, 4, 1, 1])),
    )
    return Episode("tiny", LEGEND, ("grass", "roof"), ("lake", "road"), support, queries)


def bundle_of(
    family: ModelSpec | None = None,
    names: tuple[str, ...] = ("roof", "other", "grass"),
    bands: tuple[str, ...] = ("red", "green", "blue"),
    rows: bool = False,
    **details: Any,
) -> Bundle:
    """A bundle whose classes stand in another order than the episode's; its rows fit their colours
    where the network is of pixels alone (`family` None, or `rows`)."""
    torch.manual_seed(3)
    norms = [BandNorm(name=n, mean=MEAN, std=STD, low=0, high=255) for n in bands]
    classes = tuple(LandClass(i, n, (9, i, 0)) for i, n in enumerate(names))
    model = build(family or ModelSpec("pixel"), norms, names)
    assert isinstance(model, LinearSegmenter)
    if family is None or rows:
        spots = (COLORS - MEAN) / STD
        ideal = [spots[LEGEND.names.index(n)] if n in LEGEND.names else spots[0] for n in names]
        order = [("red", "green", "blue").index(name) for name in bands]
        weight = torch.tensor(np.array(ideal)[:, order], dtype=torch.float32)
        bias = torch.tensor([-0.5 * float(row @ row) for row in ideal])
        with torch.no_grad():
            model.classifier.weight.copy_(weight[:, :, None, None])
            assert model.classifier.bias is not None
            model.classifier.bias.copy_(bias)
    return Bundle.create(model, legend=Legend("base", classes), bands=norms, **details)


def features(item: FewShotImage, size: int | None) -> npt.NDArray[np.float64]:
    """(3, H, W): what the network of pixels sees; 0 in the padding."""
    pair = read_pair(item, LEGEND, size)
    return np.where(pair.valid, (pair.image - MEAN) / STD, 0)


def prototype_rows(episode: Episode, size: int | None) -> tuple[Any, Any]:
    """Weight and bias of all five classes by the definition of `prototype`."""
    spots = (COLORS[:3] - MEAN) / STD
    rows = list(spots)
    for name in episode.novel:
        index = LEGEND.names.index(name)
        seen = [
            features(item, size)[:, read_pair(item, LEGEND, size).label == index]
            for item in episode.support_images
        ]
        mean = np.concatenate(seen, 1).mean(1)
        rows.append(mean / np.linalg.norm(mean) * np.linalg.norm(spots, axis=1).mean())
    return np.array(rows), np.array([*(-0.5 * (spots**2).sum(1)), 0, 0])


def ious(pairs: Sequence[tuple[Any, Any]]) -> list[float]:
    """IoU by class of (truth, prediction) pairs, 255 in the truth ignored."""
    truth = np.concatenate([t.ravel() for t, _ in pairs])
    found = np.concatenate([p.ravel() for _, p in pairs])[truth != 255]
    truth = truth[truth != 255]
    both = [((truth == k) & (found == k)).sum() for k in range(5)]
    either = [((truth == k) | (found == k)).sum() for k in range(5)]
    return [b / e if e else 0 for b, e in zip(both, either, strict=True)]


@pytest.mark.parametrize("size", [SIDE, 32, None])
@pytest.mark.parametrize("at", ["canvas", "image"])
def test_prototypes_score_as_worked_out_by_hand(episode, tmp_path, size, at) -> None:  # type: ignore[no-untyped-def]
    keep = tmp_path / "keep"
    found = evaluate_episode(
        bundle_of(), episode, method="prototype", size=size, at=at, keep=keep, batch=2
    )
    weight, bias = prototype_rows(episode, size)
    pairs = []
    for item in episode.queries:
        pair = read_pair(item, LEGEND, size)
        scores = np.einsum("kc,chw->khw", weight, features(item, size)) + bias[:, None, None]
        classes = scores.argmax(0)
        rows = np.arange(pair.shape[0]) * pair.content[0] // pair.shape[0]
        cols = np.arange(pair.shape[1]) * pair.content[1] // pair.shape[1]
        own = classes[np.ix_(rows, cols)]
        whole = read_pair(item, LEGEND).label
        pairs.append((pair.label, classes) if at == "canvas" else (whole, own))
        values = np.array(LEGEND.values)
        kept = np.array(Image.open(keep / f"preds/{item.id}.png"))
        assert kept.dtype == np.uint8
        assert np.array_equal(kept, values[own])
        target = np.array(Image.open(keep / f"targets/{item.id}.png"))
        assert np.array_equal(target, np.array(Image.open(item.label)))
        if size is not None:
            kept = np.array(Image.open(keep / f"preds_{size}/{item.id}.png"))
            assert np.array_equal(kept, np.where(pair.valid, values[classes], 0))
    assert found is not None
    assert found.queries == 3
    expected = ious(pairs)
    assert found.iou.tolist() == pytest.approx(expected)
    assert found.base == pytest.approx(np.mean(expected[1:3]))
    assert found.novel_mean == pytest.approx(np.mean(expected[3:]))
    assert min(expected) > 0.3  # the classes are told apart, so that a wrong order would show


def enlarge(cells: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """Bilinear enlargement with corner cells on corner pixels: (K, h, w) -> (K, size, size)."""
    for axis in (1, 2):
        at = np.arange(size) * (cells.shape[axis] - 1) / (size - 1)
        low = np.minimum(at.astype(int), cells.shape[axis] - 2)
        part = (at - low).reshape([-1 if i == axis else 1 for i in range(3)])
        cells = cells.take(low, axis) * (1 - part) + cells.take(low + 1, axis) * part
    return cells


@pytest.mark.parametrize("tta", ["none", "d4"])
def test_probabilities_are_enlarged_and_turned(episode: Episode, tmp_path: Path, tta: str) -> None:
    options = {"widths": [4, 6], "decoder": [4], "blocks": 1, "reduce": 2}
    bundle = bundle_of(ModelSpec("compact", options))
    keep = tmp_path / "keep"
    evaluate_episode(bundle, episode, method="prototype", size=SIDE, tta=tta, keep=keep)

    @torch.no_grad()
    def cells(image: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Features (C, h, w)."""
        found = bundle.model.features(torch.tensor(image.copy(), dtype=torch.float32)[None])
        return found[0].double().numpy()

    weight, bias = (array.double().numpy() for array in base_rows(bundle, episode))
    rows = []
    for name in episode.novel:
        total, count = np.zeros(weight.shape[1]), 0
        for item in episode.support_images:
            grid = cells(features(item, SIDE))
            label = read_pair(item, LEGEND, SIDE).label[:: SIDE // grid.shape[1]]  # type: ignore[index]
            chosen = label[:, :: SIDE // grid.shape[2]] == LEGEND.names.index(name)
            total, count = total + grid[:, chosen].sum(1), count + chosen.sum()
        mean = total / count
        rows.append(mean / np.linalg.norm(mean) * np.linalg.norm(weight, axis=1).mean())
    weight, bias = np.concatenate([weight, rows]), np.concatenate([bias, [0, 0]])

    def probabilities(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        grid = cells(image)
        assert grid.shape[1] < SIDE  # else nothing is enlarged
        power = np.exp(np.einsum("kc,chw->khw", weight, grid) + bias[:, None, None])
        return enlarge(power / power.sum(0), SIDE)

    for item in (episode.queries[0], episode.queries[2]):
        image = features(item, SIDE)
        views = [(turns, flip) for turns in range(4) for flip in (False, True)]
        total = np.zeros((5, SIDE, SIDE))
        for turns, flip in views if tta == "d4" else views[:1]:
            view = np.rot90(image[:, ::-1] if flip else image, turns, (1, 2))
            back = np.rot90(probabilities(view), -turns, (1, 2))
            total += back[:, ::-1] if flip else back
        expected = np.array(LEGEND.values)[total.argmax(0)]
        kept = np.array(Image.open(keep / f"preds/{item.id}.png"))
        assert (kept != expected).mean() < 0.002  # float32 beside float64
        assert len(np.unique(expected)) > 1


@pytest.mark.parametrize("marginal", ["self", "upperbound"])
def test_diam_gets_each_query_with_its_mask_and_label(episode: Episode, marginal: str) -> None:
    """The same as adapting by hand; a query of 40 rows leaves padding on the canvas of 48."""
    config = DiamConfig(iterations=40, marginal=marginal)  # type: ignore[arg-type]
    found = evaluate_episode(bundle_of(), episode, config=config, size=SIDE)
    assert found is not None
    support = read_support(episode, SIDE)
    spots = torch.tensor((COLORS[:3] - MEAN) / STD, dtype=torch.float32)
    pairs = []
    for item in episode.queries:
        query = read_pair(item, LEGEND, SIDE)
        assert query.label is not None
        seen = torch.tensor(features(item, SIDE), dtype=torch.float32)[None]
        result = diam.adapt(
            torch.tensor(
                np.stack([features(i, SIDE) for i in episode.support_images]), dtype=torch.float32
            ),
            torch.tensor(np.stack([pair.label for pair in support])),
            seen,
            spots,
            -0.5 * (spots**2).sum(1),
            novel_classes=episode.novel,
            config=config,
            query_valid=torch.tensor(query.valid)[None],
            query_labels=torch.tensor(query.label)[None],
        )
        pairs.append((query.label, result.logits(seen)[0].argmax(0).numpy()))
    assert found.iou.tolist() == pytest.approx(ious(pairs), abs=2e-3)


def test_a_network_that_pads_is_cut_back(episode: Episode) -> None:
    plain, padded = (
        evaluate_episode(
            bundle_of(ModelSpec("pixel", {"stride": stride}), rows=True),
            episode,
            method="prototype",
            size=None,
            tta="d4",
        )
        for stride in (1, 32)
    )
    assert plain is not None
    assert padded is not None
    assert np.array_equal(plain.confusion.matrix, padded.confusion.matrix)


def test_the_batch_changes_nothing_and_queries_are_adapted_to(episode: Episode) -> None:
    config = method_config("diam", {"iterations": 30}, published=True)
    assert not config.shared

    def matrix(**options: Any) -> npt.NDArray[np.int64]:
        found = evaluate_episode(
            bundle_of(), options.pop("episode", episode), config=config, size=SIDE, **options
        )
        assert found is not None
        return found.confusion.matrix

    whole = matrix(batch=3)
    assert np.array_equal(whole, matrix(batch=1))
    assert np.array_equal(whole, matrix(batch=2))
    single = [matrix(episode=replace(episode, queries=(query,))) for query in episode.queries]
    assert np.array_equal(whole, sum(single))


def test_a_shared_classifier_and_marginals(episode: Episode) -> None:
    def score(batch: int = 4, **settings: Any) -> float:
        config = method_config("diam", {"iterations": 60, **settings}, published=True)
        found = evaluate_episode(bundle_of(), episode, config=config, size=SIDE, batch=batch)
        assert found is not None
        return found.base + found.novel_mean

    alone = score()
    assert score(shared=True) == score(shared=True, batch=1) != alone
    assert score(marginal="upperbound", term_weights=[100, 30, 1, 100]) > alone


def test_padding_and_ignored_labels_do_not_count(episode: Episode) -> None:
    found = evaluate_episode(bundle_of(), episode, method="prototype", size=64)
    assert found is not None
    # 48 × 48 pictures become 64 × 64; of 40 × 48 the canvas holds 48 × 64; two rows are 255
    squares = 2 * (64 - len({r for r in range(64) if r * 48 // 64 < 2})) * 64
    other = (48 - len({r for r in range(48) if r * 40 // 48 < 2})) * 64
    assert found.confusion.matrix.sum() == squares + other


def test_queries_without_labels(episode: Episode, tmp_path: Path) -> None:
    bare = tuple(replace(query, label=None) for query in episode.queries)
    keep = tmp_path / "keep"
    unknown = replace(episode, queries=bare)
    assert evaluate_episode(bundle_of(), unknown, method="prototype", size=SIDE, keep=keep) is None
    assert sorted(p.name for p in (keep / "preds").iterdir()) == ["q0.png", "q1.png", "q2.png"]
    assert not (keep / "targets").exists()
    partly = replace(episode, queries=(bare[0], *episode.queries[1:]))
    found = evaluate_episode(bundle_of(), partly, method="prototype", size=SIDE)
    assert found is not None
    assert found.queries == 2
    config = method_config("diam", {"marginal": "image_level"}, published=True)
    with pytest.raises(InputError, match=r"image_level looks at the labels.* of q0"):
        evaluate_episode(bundle_of(), partly, config=config, size=SIDE)


def test_bands_in_another_order_are_the_same(episode: Episode) -> None:
    found, turned = (
        evaluate_episode(bundle_of(bands=bands), episode, method="prototype", size=SIDE)
        for bands in (("red", "green", "blue"), ("blue", "red", "green"))
    )
    assert found is not None
    assert turned is not None
    assert np.array_equal(found.confusion.matrix, turned.confusion.matrix)
    bundle = bundle_of(ModelSpec("pixel"), bands=("red", "green", "nir"))
    with pytest.raises(BandError, match="red, green, nir"):
        evaluate_episode(bundle, episode, method="prototype")


def test_bundles_that_do_not_go_with_the_episode(episode: Episode) -> None:
    with pytest.raises(LegendError, match=r"lacks roof and also has lake.*other\) and 2 base"):
        base_rows(bundle_of(names=("other", "grass", "lake")), episode)
    with pytest.raises(LegendError, match="also has lake"):
        base_rows(bundle_of(names=("other", "grass", "roof", "lake")), episode)
    with pytest.raises(BundleError, match="not learned other"):
        base_rows(bundle_of(learned=("grass", "roof")), episode)
    weight, _ = base_rows(bundle_of(names=("Roof", "OTHER", "grass")), episode)
    assert weight.shape == (3, 3)


def test_what_cannot_work_is_refused_at_once(episode: Episode, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no queries"):
        evaluate_episode(bundle_of(), replace(episode, queries=()), size=SIDE)
    with pytest.raises(ConfigError, match="tta"):
        evaluate_episode(bundle_of(), episode, tta="d8")
    with pytest.raises(ConfigError, match="batch 0"):
        evaluate_episode(bundle_of(), episode, batch=0)
    twins = tuple(
        write(tmp_path, f"a.{n}", *draw(n, [1, 2, 3, 4])) for n in range(2)
    )  # both end at the first dot
    both = replace(episode, queries=twins)
    with pytest.raises(ConfigError, match=r"would be called a\.png"):
        evaluate_episode(bundle_of(), both, size=SIDE, keep=tmp_path / "keep")
    (tmp_path / "q4.png").write_bytes(b"none")
    broken = replace(episode, queries=(FewShotImage("q4", tmp_path / "q4.png"),))
    with pytest.raises(InputError, match=r"q4\.png"):
        evaluate_episode(bundle_of(), broken, size=SIDE)
