"""Adapting whole bundles: learned classes, mothers, backgrounds, effects."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from covermap.data.sample import Sample
from covermap.errors import ConfigError, InputError, LegendError
from covermap.learning.few_shot_bundle import OWN_DIAM, adapt_bundle, method_config
from covermap.legend import LandClass, Legend
from covermap.models.bundle import BandNorm, Bundle
from covermap.models.registry import ModelSpec, build
from covermap.models.segmenter import LinearSegmenter

CLASSES = ("water", "forest", "other", "field")
LAKE = LandClass(9, "lake", (0, 0, 200))
SEEN = ("water", "other", "field")


def make_bundle(learned: tuple[str, ...] = SEEN) -> Bundle:
    """A network whose features are its three bands; band 0 is water, 1 other, 2 field."""
    model = build(ModelSpec("pixel", {}), 3, len(CLASSES))
    assert isinstance(model, LinearSegmenter)
    rows = torch.tensor([[4.0, -2, -2], [0, 0, 0], [-2, 4, -2], [-2, -2, 4]])
    model.replace_linear(rows, torch.tensor([0.0, 3.0, 0.0, 0.0]))
    legend = Legend(
        "four", tuple(LandClass(i + 1, n, (i, 9 * i, 5)) for i, n in enumerate(CLASSES))
    )
    bands = [BandNorm(name=n, mean=0, std=1, low=0, high=1) for n in ("a", "b", "c")]
    return Bundle.create(model, legend=legend, bands=bands, learned=learned, patch=16)


def sample(seed: int, labelled: bool = True) -> tuple[Sample, np.ndarray]:
    """Water, other and field in stripes; a lake is other that is bright in band 0 too."""
    rng = np.random.default_rng(seed)
    kind = np.repeat(np.arange(4), 4)[None].repeat(16, 0)
    spots = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.9, 1.3, 0]])
    image = (spots[kind] + rng.normal(0, 0.05, (16, 16, 3))).transpose(2, 0, 1)
    label = np.where(kind == 3, len(CLASSES), 0)
    truth = np.array([0, 2, 3, 4])[kind]
    valid = np.ones((16, 16), bool)
    return Sample(image.astype(np.float32), valid, label if labelled else None), truth


def test_unlearned_classes_stay_out_and_keep_their_row() -> None:
    bundle = make_bundle()
    config = method_config("finetune", {"iterations": 400})
    adapted = adapt_bundle(bundle, [sample(0)[0]], [], [LAKE], method="finetune", config=config)
    made = adapted.bundle
    assert made.legend.names == (*CLASSES, "lake")
    assert made.card.learned == (*SEEN, "lake")
    weight, bias = made.model.linear()
    assert torch.equal(weight[1], torch.zeros(3))
    assert bias[1].item() == 3.0
    assert adapted.result.weight.shape == (1, 4, 3)
    other, truth = sample(1)
    scores = made.model(made.normalise(other.image, other.valid)[None])[0]
    scores[1] = -torch.inf  # as mapping bars it
    assert (scores.argmax(0).numpy() == truth).mean() > 0.99
    assert make_bundle().digest == bundle.digest  # the old one is as it was


def test_the_effect_is_told() -> None:
    config = method_config("finetune", {"iterations": 400})
    query = sample(3, labelled=False)[0]
    effect = adapt_bundle(
        make_bundle(), [sample(0)[0]], [query], [LAKE], method="finetune", config=config
    ).effect
    assert effect.recall["lake"] > 0.99
    assert effect.share["lake"] == pytest.approx(0.25, abs=0.01)
    assert effect.parents == {"lake": "other"}
    assert effect.moved < 0.01
    assert "lake" in effect.text()


def test_invalid_pixels_are_neither_support_nor_query() -> None:
    clean, broken = sample(0)[0], sample(0)[0]
    image, valid = broken.image.copy(), broken.valid.copy()
    valid[:4] = False
    image[:, :4] = np.nan
    label = clean.label.copy()
    label[:4] = 255
    masked = Sample(image, valid, broken.label)
    ignored = Sample(np.where(valid, clean.image, 0).astype(np.float32), valid, label)
    rows = [
        adapt_bundle(make_bundle(), [s], [], [LAKE]).bundle.model.linear()[0]
        for s in (masked, ignored)
    ]
    assert torch.equal(rows[0], rows[1])


def test_masked_parts_of_queries_do_not_count() -> None:
    support, query = [sample(0)[0]], sample(3, labelled=False)[0]
    valid = query.valid.copy()
    valid[8:] = False
    rows = []
    for level in (0.0, 5.0):
        image = query.image.copy()
        image[:, 8:] = level
        masked = Sample(np.where(valid, image, level).astype(np.float32), valid)
        adapted = adapt_bundle(make_bundle(), support, [masked], [LAKE])
        rows.append(adapted.result)
        assert adapted.effect.share["lake"] == pytest.approx(0.25, abs=0.02)
    assert torch.equal(rows[0].weight, rows[1].weight)
    whole = adapt_bundle(make_bundle(), support, [query], [LAKE]).result
    small = Sample(query.image[:, :8], query.valid[:8])
    cut = adapt_bundle(make_bundle(), support, [small], [LAKE]).result
    torch.testing.assert_close(cut.weight, rows[0].weight)
    assert not torch.equal(whole.weight, rows[0].weight)


def test_mothers_are_mined_where_nothing_is_background() -> None:
    """The row that novel probability returns to is told apart by its gradient."""
    kept = make_bundle(("water", "field", "other"))
    names = {"mothers": {"lake": "other"}}
    given = adapt_bundle(kept, [sample(0)[0]], [], [LAKE], **names).result.weight
    by_name = adapt_bundle(kept, [sample(0)[0]], [], [LAKE]).result.weight
    assert torch.equal(given, by_name)  # `other` is known as background by its name
    water = adapt_bundle(kept, [sample(0)[0]], [], [LAKE], mothers={"lake": "water"})
    assert not torch.equal(water.result.weight, given)
    plain = Legend.from_dict(
        {**kept.legend.to_dict(), "classes": [
            {**entry, "name": entry["name"].replace("other", "town")}
            for entry in kept.legend.to_dict()["classes"]
        ]}
    )  # fmt: skip
    town = kept.with_card(legend=plain.to_dict(), learned=("water", "town", "field"))
    mined = adapt_bundle(town, [sample(0)[0]], [], [LAKE]).result.weight
    assert torch.equal(mined, given)  # towns win the lake's pixels


def test_published_settings_are_the_papers() -> None:
    assert method_config("diam", {}, published=True).term_weights == (100, 1, 1, 100)
    own = method_config("diam", {})
    assert {name: getattr(own, name) for name in OWN_DIAM} == dict(OWN_DIAM)


def test_mistakes() -> None:
    support = [sample(0)[0]]
    with pytest.raises(LegendError, match="water"):
        adapt_bundle(make_bundle(), support, [], [LandClass(9, "water", (1, 1, 1))])
    with pytest.raises(ConfigError, match="'forest' was never learned"):
        adapt_bundle(make_bundle(), support, [], [LAKE], background="forest")
    with pytest.raises(InputError, match="no pixel of the novel class 'lake'"):
        adapt_bundle(make_bundle(), [sample(0, labelled=False)[0]], [], [LAKE])
    with pytest.raises(InputError, match="There is no image"):
        adapt_bundle(make_bundle(), [], [], [LAKE])
