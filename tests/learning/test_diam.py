"""DIaM against the same losses written with autograd, from the facts of the paper and its code."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from covermap.errors import ConfigError, InputError
from covermap.learning.diam import DiamConfig, adapt

EPS = 1e-10


def downsample(labels: Tensor, grid: tuple[int, int]) -> Tensor:
    """The pixel at floor(i · H / h), by indexing."""
    rows = [
        int(np.floor(np.float32(i) * np.float32(labels.shape[1] / grid[0]))) for i in range(grid[0])
    ]
    cols = [
        int(np.floor(np.float32(j) * np.float32(labels.shape[2] / grid[1]))) for j in range(grid[1])
    ]
    return labels[:, rows][:, :, cols]


def reference(case: dict, config: DiamConfig, steps: int):  # type: ignore[no-untyped-def, type-arg]
    """Weight, bias, losses and proportions of each query, by autograd."""
    found = [reference_query(case, config, steps, t) for t in range(len(case["queries"]))]
    return tuple(torch.stack(x) for x in zip(*found, strict=True))


def reference_prototypes(fs: Tensor, y: Tensor, kb: int, n: int) -> Tensor:
    found = []
    for k in range(kb, kb + n):
        mask = (y == k).double()
        v = torch.einsum("schw,shw->c", fs, mask) / (mask.sum() + EPS)
        found.append(v / (v.norm() + EPS))
    return torch.stack(found)


def reference_query(case: dict, config: DiamConfig, steps: int, t: int):  # type: ignore[no-untyped-def, type-arg]
    """One query, with a graph."""
    fs, ys, fq, wb, bb = (case[k] for k in ("support", "labels", "queries", "weight", "bias"))
    kb, n, fq = len(wb), case["novel"], fq[t]
    y = downsample(ys, (fs.shape[2], fs.shape[3]))
    y = torch.where(y == 255, 255, torch.where(y < kb, 0, y))
    w_base, b_base = wb.clone(), bb.clone()
    w_new, b_new = reference_prototypes(fs, y, kb, n), torch.zeros(n, dtype=fs.dtype)
    leaves = [w_new, b_new, *([w_base, b_base] if config.update_base else [])]
    for p in leaves:
        p.requires_grad_()
    if config.oem_compat:
        vq = (y != 255).sum(0).double()
    elif case["valid"] is None:
        vq = torch.ones(fq.shape[1:], dtype=fs.dtype)
    else:
        vq = downsample(case["valid"][t : t + 1].long(), fq.shape[1:])[0].double()
    snapshot = torch.softmax(torch.einsum("kc,chw->khw", wb, fq) + bb[:, None, None], 0)
    yq = None if case["truth"] is None else downsample(case["truth"][t : t + 1], fq.shape[1:])[0]
    omega = config.background_weight
    omega = (0.01 if len(fs) // n == 1 else 0.15) if omega is None else omega

    def mean(x: Tensor) -> Tensor:
        return (x * vq).sum((-2, -1)) / (vq.sum() + EPS)

    def query() -> Tensor:
        w, b = torch.cat([w_base, w_new]), torch.cat([b_base, b_new])
        return torch.einsum("kc,chw->khw", w, fq) + b[:, None, None]

    def aim() -> Tensor:
        z = query().detach()
        if config.marginal == "uniform":
            return torch.full((kb + n,), 1 / (kb + n), dtype=fs.dtype)
        if config.marginal == "upperbound":
            counts = torch.stack([(yq == k).sum() for k in range(kb + n)]).double()
            return counts / counts.sum()
        if config.marginal == "image_level":
            z[[k for k in range(kb + n) if not (yq == k).any()]] = -torch.inf
        return mean(torch.softmax(z, 0))

    def cross_entropy() -> Tensor:
        w, b = torch.cat([w_base, w_new]), torch.cat([b_base, b_new])
        p = torch.softmax(torch.einsum("kc,schw->skhw", w, fs) + b[:, None, None], 1)
        p = torch.cat([p[:, :kb].sum(1, keepdim=True), p[:, kb:]], 1)
        loss = -omega * (torch.log(p[:, 0] + EPS) * (y == 0)).sum()
        for k in range(n):
            loss = loss - (torch.log(p[:, k + 1] + EPS) * (y == kb + k)).sum()
        return loss / ((y != 255).double().sum() + EPS)

    def query_terms() -> list[Tensor]:
        p = torch.softmax(query(), 0)
        m = mean(p)
        q = list(p[:kb])
        for k in range(n):
            home = config.mothers[k] if config.mothers else 0
            q[home] = q[home] + p[kb + k]
        qs = torch.stack(q)
        return [
            (m * torch.log(EPS + m / (aims[-1] + EPS))).sum(),
            mean(-(p * torch.log(p + EPS)).sum(0)),
            mean((qs * torch.log(EPS + qs / (snapshot + EPS))).sum(0)),
        ]

    aims, history = [aim()], []
    for step in range(1, steps + 1):
        terms = [cross_entropy(), *query_terms()]
        total = sum(f * x for f, x in zip(config.term_weights, terms, strict=True))
        history.append([float(x.detach()) for x in (*terms, total)])
        for p, g in zip(leaves, torch.autograd.grad(total, leaves), strict=True):
            p.data -= config.learning_rate * g
        if config.marginal == "self" and step in config.marginal_updates and config.term_weights[1]:
            aims.append(aim())
    w, b = torch.cat([w_base, w_new]).detach(), torch.cat([b_base, b_new]).detach()
    return w, b, torch.tensor(history, dtype=fs.dtype), torch.stack(aims)


def make_case(
    seed: int = 0,
    *,
    base: int = 3,
    novel: int = 2,
    shots: int = 2,
    queries: int = 2,
    grid: tuple[int, int] = (4, 5),
    ignore: float = 0.1,
    dtype: torch.dtype = torch.float64,
) -> dict:  # type: ignore[type-arg]
    rng = np.random.default_rng(seed)
    images, channels = shots * novel, 6
    size = (grid[0] * 3 + 1, grid[1] * 2)

    def labels(count: int, values: list[int]) -> np.ndarray:  # type: ignore[type-arg]
        blocky = rng.choice(values, (count, *grid)).repeat(3, 1).repeat(2, 2)
        full = np.concatenate([blocky, blocky[:, -1:]], 1)
        return np.where(rng.random(full.shape) < ignore, 255, full)

    support = labels(images, [*range(base), 99])
    for image in range(images):
        support[image] = np.where(support[image] == 99, base + image % novel, support[image])
        support[image, :4, :4] = base + image % novel
    return {
        "support": torch.tensor(rng.gamma(1.0, 1.0, (images, channels, *grid)), dtype=dtype),
        "labels": torch.tensor(support, dtype=torch.int64),
        "queries": torch.tensor(rng.gamma(1.0, 1.0, (queries, channels, *grid)), dtype=dtype),
        "weight": torch.tensor(rng.normal(0, 1, (base, channels)), dtype=dtype),
        "bias": torch.tensor(rng.normal(0, 1, base), dtype=dtype),
        "valid": torch.tensor(rng.random((queries, *size)) > 0.2),
        "truth": torch.tensor(labels(queries, list(range(base + novel))), dtype=torch.int64),
        "novel": novel,
        "size": size,
    }


def run(case: dict, config: DiamConfig):  # type: ignore[no-untyped-def, type-arg]
    return adapt(
        case["support"],
        case["labels"],
        case["queries"],
        case["weight"],
        case["bias"],
        novel_classes=[f"new {i}" for i in range(case["novel"])],
        config=config,
        query_valid=case["valid"],
        query_labels=case["truth"],
    )


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    base=st.integers(1, 4),
    novel=st.integers(1, 3),
    shots=st.integers(1, 2),
    grid=st.tuples(st.integers(3, 5), st.integers(3, 6)),
    ignore=st.sampled_from([0.0, 0.1, 0.4]),
    terms=st.sampled_from(
        [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (100, 1, 1, 100), (3, 2, 0.5, 7)]
    ),
    marginal=st.sampled_from(["self", "upperbound", "image_level", "uniform"]),
    update_base=st.booleans(),
    oem=st.booleans(),
    mother=st.booleans(),
)
def test_gradients_equal_autograd(  # type: ignore[no-untyped-def]
    seed, base, novel, shots, grid, ignore, terms, marginal, update_base, oem, mother
) -> None:
    case = make_case(seed, base=base, novel=novel, shots=shots, grid=grid, ignore=ignore)
    config = DiamConfig(
        term_weights=tuple(float(t) for t in terms),
        iterations=5,
        learning_rate=0.01,
        marginal_updates=(2, 4),
        marginal=marginal,
        update_base=update_base,
        oem_compat=oem,
        mothers=(base - 1,) * novel if mother else (),
    )
    found = run(case, config)
    weight, bias, losses, aims = reference(case, config, 5)
    torch.testing.assert_close(found.weight, weight, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.bias, bias, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.marginals, aims.transpose(0, 1), rtol=0, atol=1e-9)
    names = ("ce", "kl", "entropy", "distillation", "total")
    for place, name in enumerate(names):
        torch.testing.assert_close(found.losses[name], losses[:, :, place].T, rtol=0, atol=1e-9)


def test_a_hundred_steps_in_float32_stay_near_the_reference() -> None:
    case = make_case(7, grid=(5, 7))
    single = {
        key: value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
        for key, value in case.items()
    }
    found = run(single, DiamConfig())
    weight, bias, *_ = reference(case, DiamConfig(), 100)
    assert found.weight.dtype == torch.float32
    torch.testing.assert_close(found.weight.double(), weight, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.bias.double(), bias, rtol=0, atol=1e-4)


def test_queries_do_not_influence_each_other() -> None:
    case = make_case(3, queries=3)
    together = run(case, DiamConfig())
    for index in range(3):
        one = {**case, **{k: case[k][index : index + 1] for k in ("queries", "valid", "truth")}}
        alone = run(one, DiamConfig())
        torch.testing.assert_close(alone.weight[0], together.weight[index], rtol=0, atol=1e-9)


def test_invalid_pixels_of_the_query_do_not_count() -> None:
    case = make_case(5, ignore=0.0)
    changed = {**case, "queries": case["queries"].clone()}
    case["valid"][:] = True
    case["valid"][:, 9:] = False  # the last row of four cells begins at pixel 9
    changed["queries"][:, :, 3] = 50.0
    torch.testing.assert_close(run(case, DiamConfig()).weight, run(changed, DiamConfig()).weight)


def test_shots_are_pooled_by_pixel_and_prototypes_have_unit_length() -> None:
    case = make_case(0, base=2, novel=1, shots=2, grid=(1, 2))
    case["labels"] = torch.tensor([[[2, 2]], [[2, 0]]])
    case["support"] = torch.zeros(2, 6, 1, 2, dtype=torch.float64)
    case["support"][0, 0] = torch.tensor([3.0, 6.0])
    case["support"][1, 1, 0, 0] = 3.0
    case["valid"] = case["truth"] = None
    found = run(case, DiamConfig(iterations=0))
    # three pixels: (3, 0), (6, 0), (0, 3) -> mean (3, 1)
    expected = torch.tensor([3.0, 1.0]) / np.sqrt(10)
    torch.testing.assert_close(found.initial_weight[2, :2].float(), expected.float())
    assert found.initial_bias[2] == 0
    assert found.marginals.shape == (1, 2, 3)


def test_one_classifier_for_all_queries() -> None:
    case = make_case(4)
    found = run(case, DiamConfig(shared=True))
    assert found.weight.shape == (1, 5, 6)
    scores = found.logits(case["queries"])
    expected = torch.einsum("kc,tchw->tkhw", found.weight[0], case["queries"])
    expected = expected + found.bias[0][:, None, None]
    torch.testing.assert_close(scores, expected)
    # one query seen twice is the same as once
    one = {**case, **{k: case[k][:1] for k in ("queries", "valid", "truth")}}
    twice = {
        **one,
        **{k: one[k].repeat(2, *[1] * (one[k].ndim - 1)) for k in ("queries", "valid", "truth")},
    }
    torch.testing.assert_close(
        run(twice, DiamConfig(shared=True)).weight[0], run(one, DiamConfig()).weight[0]
    )


def test_partial_labels_do_not_push_down_classes_an_image_was_not_searched_for() -> None:
    """Pixels of new class 1 in an image of new class 0 carry the label "none"."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.eye(4, dtype=torch.float64) * 3
    kinds = torch.randint(0, 4, (2, 6, 6), generator=generator)
    features = directions[kinds].permute(0, 3, 1, 2)
    labels = torch.zeros(2, 6, 6, dtype=torch.int64)
    for image in range(2):
        labels[image][kinds[image] == 2 + image] = 2 + image
    case = {
        "support": features,
        "labels": labels,
        "queries": features,
        "weight": torch.eye(4, dtype=torch.float64)[:2],
        "bias": torch.zeros(2, dtype=torch.float64),
        "valid": None,
        "truth": None,
        "novel": 2,
    }
    config = DiamConfig(term_weights=(100, 0, 0, 0), iterations=300, background_weight=1.0)
    truth = kinds[0] == 3  # shown unlabelled in image 0
    probability = {}
    for partial in (False, True):
        found = run(case, replace(config, partial_labels=partial))
        probability[partial] = float(found.logits(features).softmax(1)[0, 3][truth].mean())
    assert probability[True] > 0.9 > 0.6 > probability[False]


def test_a_class_lost_on_the_grid_is_named_and_area_masks_find_it(caplog) -> None:  # type: ignore[no-untyped-def]
    case = make_case(0, novel=2, shots=1, ignore=0.0)
    case["labels"][case["labels"] == 4] = 0
    case["labels"][1, 1, 1] = 4  # nearest takes rows 0, 3, … and columns 0, 2, …
    with caplog.at_level(logging.WARNING):
        lost = run(case, DiamConfig(iterations=1))
    assert "new 1" in caplog.text
    assert "new 0" not in caplog.text
    assert not lost.initial_weight[4].any()
    caplog.clear()
    found = run(case, DiamConfig(iterations=1, masks="area"))
    assert not caplog.text
    # the only cell with a share of the class is the first one of image 1
    vector = case["support"][1, :, 0, 0]
    torch.testing.assert_close(found.initial_weight[4], vector / vector.norm())


def test_area_masks_equal_nearest_where_a_cell_holds_one_class() -> None:
    case = make_case(2, ignore=0.0)
    case["labels"] = (
        case["labels"][:, :12].reshape(4, 4, 3, 5, 2)[:, :, :1, :, :1].expand(4, 4, 3, 5, 2)
    )
    case["labels"] = case["labels"].reshape(4, 12, 10)
    case["valid"] = case["truth"] = None
    a, b = run(case, DiamConfig()), run(case, DiamConfig(masks="area"))
    torch.testing.assert_close(a.weight, b.weight, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": lambda x: torch.where(x == 4, 0, x)}, "no pixel of the novel class 'new 1'"),
        ({"labels": lambda x: torch.where(x == 4, 9, x)}, "holds 9"),
        ({"labels": lambda x: x[:2]}, "same S"),
        ({"queries": lambda x: x[:, :5]}, "5 channels"),
        ({"queries": lambda x: x / 0}, "query image 0 hold NaN or infinity"),
        ({"support": lambda x: x.where(x < 2, torch.nan)}, "support image"),
        ({"weight": lambda x: x[:, :5]}, "base classifier"),
        ({"valid": lambda x: x[:1]}, "query_valid"),
        ({"valid": lambda x: x & False}, "no valid pixel"),
    ],
)
def test_wrong_arrays_are_refused(change, message) -> None:  # type: ignore[no-untyped-def]
    case = make_case(1)
    for key, make in change.items():
        case[key] = make(case[key])
    with pytest.raises(InputError, match=message):
        run(case, DiamConfig(iterations=1))


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="marginal is 'mean'"):
        DiamConfig(marginal="mean")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="mothers"):
        run(make_case(1), DiamConfig(mothers=(7, 0)))
    with pytest.raises(InputError, match="looks at the labels"):
        run({**make_case(1), "truth": None}, DiamConfig(marginal="upperbound"))
    case = make_case(1)
    arrays = (case[key] for key in ("support", "labels", "queries", "weight", "bias"))
    with pytest.raises(ConfigError, match="different names"):
        adapt(*arrays, novel_classes=["a", "a"])
