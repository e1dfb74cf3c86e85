"""Prototypes, fine-tuning and base class mining on features made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from covermap.errors import ConfigError, InputError
from covermap.learning import bcm, diam, fine_tuning, prototypes
from covermap.learning.few_shot import class_shares
from covermap.models.gated import gated_logits

METHODS = {
    "diam": diam.adapt,
    "bcm": bcm.adapt,
    "prototype": prototypes.adapt,
    "finetune": fine_tuning.adapt,
}
NOVEL = ["road", "boat"]


def world(seed: int = 0, noise: float = 0.15) -> dict[str, Tensor]:
    """Four kinds of ground; the base knows two classes, and takes road for 1 and boat for 0.

    Features are four positive directions with noise; kind 2 is `road`, kind 3 `boat`.
    """
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 4, (4, 12, 12))
    spots = np.array([[3, 0, 0, 1], [0, 3, 1, 0], [0, 2, 3, 0], [2, 0, 0, 3]], float)
    features = np.abs(spots[kinds] + rng.normal(0, noise, (4, 12, 12, 4)))
    labels = np.zeros_like(kinds)
    for image in range(4):
        new = 2 + image % 2  # each image shows one of the new classes
        labels[image][kinds[image] == new] = new
    return {
        "features": torch.tensor(features, dtype=torch.float32).permute(0, 3, 1, 2).contiguous(),
        "labels": torch.tensor(labels),
        "kinds": torch.tensor(kinds),
        "weight": torch.tensor([[1.0, -1, 0, 0], [-1, 1, 0, 0]]),
        "bias": torch.zeros(2),
    }


def run(method, case, **config):  # type: ignore[no-untyped-def]
    kinds = {
        "diam": diam.DiamConfig,
        "bcm": bcm.BcmConfig,
        "prototype": prototypes.PrototypeConfig,
        "finetune": fine_tuning.FineTuneConfig,
    }
    return METHODS[method](
        case["features"],
        case["labels"],
        case["features"],
        case["weight"],
        case["bias"],
        novel_classes=NOVEL,
        config=kinds[method](**config),
    )


@pytest.mark.parametrize(
    ("method", "config"),
    [
        ("bcm", {"partial_labels": True}),
        ("prototype", {"length": "base"}),
        ("finetune", {"partial_labels": True, "iterations": 300, "background_weight": 1.0}),
        ("diam", {"partial_labels": True, "iterations": 300, "shared": True, "mothers": (1, 0)}),
    ],
)
def test_each_method_finds_the_new_classes_on_other_images(method, config) -> None:  # type: ignore[no-untyped-def]
    found = run(method, world(), **config)
    other = world(seed=1)
    predicted = found.logits(other["features"]).argmax(1)
    assert found.logits(other["features"]).shape == (4, 4, 12, 12)
    right = (predicted == other["kinds"]).float()
    per_class = [float(right[other["kinds"] == kind].mean()) for kind in range(4)]
    least = 0.5 if method == "prototype" else 0.9
    assert min(per_class[2:]) > least, per_class


def test_prototypes_are_means_as_long_as_base_rows() -> None:
    case = world()
    found = run("prototype", case)
    mean = case["features"].permute(0, 2, 3, 1)[case["labels"] == 2].mean(0)
    expected = mean / mean.norm() * (2**0.5)
    torch.testing.assert_close(found.weight[0, 2], expected)
    unit = run("prototype", case, length="unit")
    torch.testing.assert_close(unit.weight[0, 2].norm(), torch.tensor(1.0))
    assert torch.equal(unit.weight[0, :2], case["weight"])
    with pytest.raises(ConfigError, match="length"):
        prototypes.PrototypeConfig(length="long")  # type: ignore[arg-type]


def test_fine_tuning_lowers_the_loss_and_can_leave_the_base_alone() -> None:
    case = world()
    found = run("finetune", case)
    losses = found.losses["ce"][:, 0]
    assert losses[-1] < 0.9 * losses[0]
    kept = run("finetune", case, update_base=False)
    assert torch.equal(kept.weight[0, :2], case["weight"])
    assert not torch.equal(found.weight[0, :2], case["weight"])


def test_base_class_mining_leaves_other_base_classes_untouched() -> None:
    case = world()
    found = run("bcm", case, partial_labels=True)
    # road (novel 0) comes out of base 1, boat (novel 1) out of base 0
    assert set(found.pairs) == {(1, 0), (0, 1)}
    logits = found.logits(case["features"])
    base = torch.einsum("kc,schw->skhw", case["weight"], case["features"])
    torch.testing.assert_close(logits[:, :2], base)
    winner = base.argmax(1)
    assert torch.isinf(logits[:, 2][winner == 0]).all()
    assert torch.isinf(logits[:, 3][winner == 1]).all()
    assert torch.isfinite(logits[:, 2][winner == 1]).all()


@pytest.mark.parametrize(("coverage", "parents"), [(0.5, [2]), (0.6, [2, 0]), (0.95, [2, 0, 1])])
def test_parents_are_the_fewest_base_classes_that_cover_a_class(coverage, parents) -> None:  # type: ignore[no-untyped-def]
    # ten pixels of the new class: base 2 wins five, base 0 four, base 1 one
    winner = [2] * 5 + [0] * 4 + [1]
    features = torch.eye(3)[winner].T.reshape(1, 3, 1, 10)
    labels = torch.full((1, 1, 10), 3)
    found = bcm.adapt(
        features,
        labels,
        features,
        torch.eye(3),
        torch.zeros(3),
        novel_classes=["new"],
        config=bcm.BcmConfig(coverage=coverage),
    )
    assert [pair[0] for pair in found.pairs] == parents


def test_a_gate_turns_at_one_half() -> None:
    base = torch.tensor([[2.0], [1.0]]).reshape(1, 2, 1, 1)
    features = torch.tensor([4.0]).reshape(1, 1, 1, 1)
    for bias, wins in ((-2.1, 0), (-1.9, 2)):  # the square root of 4 is 2
        logits = gated_logits(
            base, features, torch.ones(1, 1), torch.tensor([bias]), [(0, 0)], 1, 0.5
        )
        assert int(logits.argmax(1)) == wins
        assert float(logits[0, 2]) == pytest.approx(2.0 + 2.0 + bias)


def test_all_methods_refuse_the_same_mistakes() -> None:
    case = world()
    for name in METHODS:
        with pytest.raises(InputError, match="no pixel of the novel class 'boat'"):
            run(name, {**case, "labels": torch.where(case["labels"] == 3, 0, case["labels"])})
        with pytest.raises(InputError, match="NaN"):
            run(name, {**case, "features": case["features"] / 0})


def test_shares_of_a_cell() -> None:
    labels = torch.tensor([[[0, 2, 3, 255], [1, 2, 255, 255]]])
    area = class_shares(labels, 2, 2, (1, 2), "area")
    assert area[0, :, 0].tolist() == [[0.5, 0.0], [0.5, 0.0], [0.0, 0.25]]
    nearest = class_shares(labels, 2, 2, (1, 2), "nearest")
    assert nearest[0, :, 0].tolist() == [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    "values", [{"coverage": 0}, {"power": 0}, {"folds": 1}, {"max_pixels": 1}, {"penalties": 0}]
)
def test_wrong_settings_of_base_class_mining_are_refused(values) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match="Base class mining needs"):
        bcm.BcmConfig(**values)


def test_gates_of_single_images_and_of_all_are_averaged(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Weights: five for the regression on all images, one for each image that shows both kinds."""

    def counts(self, penalty=None):  # type: ignore[no-untyped-def]
        return np.full(4, len(self._yes), np.float32), float(len(self._no))

    monkeypatch.setattr(bcm._Regression, "fit", counts)
    case = world()
    found = run("bcm", case, partial_labels=True, max_pixels=10**6)
    winner = torch.einsum("kc,schw->skhw", case["weight"], case["features"]).argmax(1)
    for gate, (parent, child) in enumerate(found.pairs):
        here = winner == parent
        yes = (here & (case["labels"] == 2 + child)).sum((1, 2)).float()
        searched = torch.tensor([image % 2 == child for image in range(4)])[:, None, None]
        no = (here & (case["labels"] == 0) & searched).sum((1, 2)).float()
        single = (yes > 1) & (no > 1)
        parts = 5 + int(single.sum())
        assert found.gate_weight[gate, 0] == pytest.approx(
            float((5 * yes.sum() + yes[single].sum()) / parts)
        )
        assert found.gate_bias[gate] == pytest.approx(
            float((5 * no.sum() + no[single].sum()) / parts)
        )
