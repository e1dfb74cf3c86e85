from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from covermap import __version__
from covermap.errors import BundleError, InputError, OutputError
from covermap.legend import LandClass, Legend
from covermap.models import card as cards
from covermap.models.bundle import BandNorm, Bundle, BundleCard, Provenance
from covermap.models.pixel import PixelSegmenter
from covermap.models.registry import ModelSpec, build
from covermap.sensors import Band

MakeBundle = Callable[..., Bundle]
UNET = ModelSpec(
    "smp",
    {
        "decoder": "unet",
        "encoder": "mobilenet_v2",
        "depth": 3,
        "decoder_options": {"decoder_channels": [16, 8, 8]},
    },
)
FULL: dict[str, Any] = {
    "sensor": "aerial",
    "gsd": 0.5,
    "learned": ("water", "town"),
    "patch": 64,
    "tile": 128,
    "margin": 32,
    "blend": "cosine",
    "precision": "bfloat16",
    "provenance": {
        "recipe": "name: little\n",
        "data_fingerprint": "abc123",
        "scores": {"val": {"miou_present": 0.1 + 0.2, "iou": [0.1, None]}},
        "licence": "CC-BY-4.0",
        "created": "2031-02-03T04:05:06Z",
        "start": "f00d",
        "notes": "à l’essai",
    },
}


def header(path: Path) -> tuple[dict[str, Any], bytes]:
    """A safetensors file by its published layout: length, JSON header, data."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def rewrite(path: Path, change: Callable[[dict[str, Any]], None], *, honest: bool = True) -> None:
    """Change the card in a file; an honest change also updates the card's checksum."""
    head, data = header(path)
    envelope = json.loads(head["__metadata__"][cards.KEY])
    change(envelope["card"])
    if honest:
        envelope["card_sha256"] = cards.sha256(cards.canonical(envelope["card"]))
    head["__metadata__"][cards.KEY] = json.dumps(envelope)
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@torch.no_grad()
def test_a_loaded_bundle_is_the_saved_one(make_bundle: MakeBundle, tmp_path: Path) -> None:
    saved = make_bundle(spec=UNET, **FULL)
    path = saved.save(tmp_path / "model.safetensors")
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]
    loaded = Bundle.load(path)
    assert loaded.card == saved.card
    assert loaded.digest == saved.digest
    assert loaded.legend == saved.legend
    assert not loaded.model.training
    image = torch.randn(2, 3, 64, 32)
    assert torch.equal(loaded.model(image), saved.model(image))


def test_the_same_model_and_card_give_the_same_bytes(
    make_bundle: MakeBundle, tmp_path: Path
) -> None:
    first = make_bundle(spec=UNET, **FULL).save(tmp_path / "a.safetensors").read_bytes()
    second = make_bundle(spec=UNET, **FULL).save(tmp_path / "b.safetensors").read_bytes()
    assert first == second
    again = Bundle.load(tmp_path / "a.safetensors").save(tmp_path / "c.safetensors")
    assert again.read_bytes() == first
    other = make_bundle(seed=1, spec=UNET, **FULL).save(tmp_path / "d.safetensors")
    assert other.read_bytes() != first


def test_memory_layout_does_not_change_a_byte(make_bundle: MakeBundle, tmp_path: Path) -> None:
    bundle = make_bundle(spec=UNET)
    plain = bundle.save(tmp_path / "a.safetensors").read_bytes()
    bundle.model.to(memory_format=torch.channels_last)
    assert bundle.save(tmp_path / "b.safetensors").read_bytes() == plain


def test_tensors_that_share_memory_are_saved_apart(make_bundle: MakeBundle, tmp_path: Path) -> None:
    bundle = make_bundle()
    model = bundle.model
    store = torch.arange(12.0)
    model.classifier.weight.data = store[:9].reshape(3, 3, 1, 1)
    model.classifier.bias.data = store[:3]
    path = bundle.with_model(model).save(tmp_path / "a.safetensors")
    weight, bias = Bundle.load(path).model.linear()
    assert weight.flatten().tolist() == list(range(9))
    assert bias.tolist() == [0, 1, 2]


@pytest.mark.usefixtures("no_network")
def test_loading_needs_no_network_and_leaves_the_generator_alone(
    make_bundle: MakeBundle, tmp_path: Path
) -> None:
    path = make_bundle(spec=UNET).save(tmp_path / "a.safetensors")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Bundle.load(path)
    assert torch.equal(torch.rand(3), expected)


def test_the_file_is_plain_safetensors(make_bundle: MakeBundle, tmp_path: Path) -> None:
    bundle = make_bundle()
    path = bundle.save(tmp_path / "a.safetensors")
    with safe_open(path, framework="pt") as file:
        assert set(file.keys()) == {"classifier.weight", "classifier.bias"}
    head, _ = header(path)
    card = json.loads(head["__metadata__"][cards.KEY])["card"]
    assert card["format"] == 1
    assert card["covermap"] == __version__
    assert [band["name"] for band in card["bands"]] == ["red", "nir", "elevation"]


def test_a_changed_weight_is_found(make_bundle: MakeBundle, tmp_path: Path) -> None:
    path = make_bundle().save(tmp_path / "a.safetensors")
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(BundleError, match=r"a.safetensors: the weights were changed"):
        Bundle.load(path)


def test_renamed_tensors_are_found(make_bundle: MakeBundle, tmp_path: Path) -> None:
    path = make_bundle().save(tmp_path / "a.safetensors")
    raw = path.read_bytes()
    assert raw.count(b'"classifier.bias"') == 1
    path.write_bytes(raw.replace(b'"classifier.bias"', b'"classifier.bios"'))
    with pytest.raises(BundleError, match="weights were changed"):
        Bundle.load(path)


def test_a_changed_card_is_found(make_bundle: MakeBundle, tmp_path: Path) -> None:
    path = make_bundle(**FULL).save(tmp_path / "a.safetensors")
    rewrite(path, lambda card: card["bands"][0].update(mean=99.0), honest=False)
    with pytest.raises(BundleError, match="card was changed after it was written"):
        Bundle.load(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_file_cut_short_is_refused(share: float, make_bundle: MakeBundle, tmp_path: Path) -> None:
    path = make_bundle(spec=UNET).save(tmp_path / "a.safetensors")
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    with pytest.raises(BundleError, match="cut short, damaged or of another kind"):
        Bundle.load(path)


def test_a_newer_format_says_who_wrote_it_and_what_to_do(
    make_bundle: MakeBundle, tmp_path: Path
) -> None:
    path = make_bundle().save(tmp_path / "a.safetensors")
    rewrite(path, lambda card: card.update(format=7, covermap="4.2.0", surprise=1), honest=False)
    with pytest.raises(
        BundleError, match=r"written by covermap 4\.2\.0 in bundle format 7.*up to 1.*pip install"
    ):
        Bundle.load(path)


def test_an_older_format_is_upgraded_step_by_step(
    make_bundle: MakeBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_bundle(gsd=10.0).save(tmp_path / "a.safetensors")

    def age(card: dict[str, Any]) -> None:
        card["format"] = -1
        card["resolution"] = card.pop("gsd")

    def rename(card: dict[str, Any]) -> dict[str, Any]:
        rest = {name: value for name, value in card.items() if name != "resolution"}
        return {**rest, "gsd": card["resolution"]}

    rewrite(path, age)
    with pytest.raises(BundleError, match=r"bundle format -1 is not known; .* reads 1"):
        Bundle.load(path)
    monkeypatch.setattr(cards, "UPGRADERS", {-1: rename, 0: lambda card: card})
    loaded = Bundle.load(path)
    assert loaded.card.gsd == 10.0
    assert loaded.card.format == 1


def test_unknown_entries_of_the_card_are_refused(make_bundle: MakeBundle, tmp_path: Path) -> None:
    path = make_bundle().save(tmp_path / "a.safetensors")
    rewrite(path, lambda card: card.update(surprise=1))
    with pytest.raises(BundleError, match="surprise: Extra inputs are not permitted"):
        Bundle.load(path)


@pytest.mark.parametrize("damage", ["[1]", '{"card": 3}', "{", '{"card": {"format": "x"}}'])
def test_a_damaged_card_is_refused(damage: str, make_bundle: MakeBundle, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(make_bundle().model.state_dict(), path, metadata={cards.KEY: damage})
    with pytest.raises(BundleError, match="card is damaged"):
        Bundle.load(path)


def test_other_files_are_no_bundles(make_bundle: MakeBundle, tmp_path: Path) -> None:
    plain = tmp_path / "plain.safetensors"
    save_file(make_bundle().model.state_dict(), plain)
    with pytest.raises(BundleError, match="no covermap bundle: it has no card"):
        Bundle.load(plain)
    with pytest.raises(InputError, match="no such file"):
        Bundle.load(tmp_path / "absent.safetensors")
    pickled = tmp_path / "model.pt"
    torch.save({}, pickled)
    with pytest.raises(BundleError, match="can run code"):
        Bundle.load(pickled)


def test_weights_for_another_network_are_refused(make_bundle: MakeBundle, tmp_path: Path) -> None:
    path = make_bundle(spec=UNET).save(tmp_path / "a.safetensors")
    rewrite(path, lambda card: card["model"].update(family="pixel", options={}))
    with pytest.raises(BundleError, match=r"do not fit the network .* torch \d.*versions like"):
        Bundle.load(path)


def test_an_unwritable_place_is_an_error_and_leaves_nothing(
    make_bundle: MakeBundle, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        make_bundle().save(tmp_path / "file" / "a.safetensors")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_network_changed_behind_its_card_is_not_saved(
    make_bundle: MakeBundle, tmp_path: Path
) -> None:
    bundle = make_bundle()
    with torch.no_grad():
        bundle.model.classifier.bias.add_(1)
    with pytest.raises(BundleError, match=r"changed after its bundle was made.*with_model"):
        bundle.save(tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())
    bundle.with_model(bundle.model).save(tmp_path / "a.safetensors")
    Bundle.load(tmp_path / "a.safetensors")


def test_the_digest_tells_bundles_apart(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    assert make_bundle().digest == bundle.digest
    others = [make_bundle(seed=1), make_bundle(gsd=3.0), bundle.with_card(tile=64)]
    assert len({bundle.digest, *(other.digest for other in others)}) == 4


def test_a_bundle_records_the_libraries_of_its_network(make_bundle: MakeBundle) -> None:
    given = {"versions": {"lightning": "9.9", "timm": "mine"}}
    versions = make_bundle(spec=UNET, provenance=given).card.provenance.versions
    assert versions["lightning"] == "9.9"
    assert versions["timm"] == "mine"
    assert {"torch", "segmentation-models-pytorch"} <= set(versions)


def test_learned_classes(make_bundle: MakeBundle) -> None:
    assert make_bundle().learned.tolist() == [True, True, True]
    assert make_bundle(learned=("town", "water")).learned.tolist() == [True, False, True]
    with pytest.raises(BundleError, match=r"learned classes \['snow'\] are not in the legend"):
        make_bundle(learned=("snow",))


def test_normalisation_is_that_of_the_card(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    pixels = np.array([100, 55, 0], np.uint8).reshape(3, 1, 1).repeat(2, axis=2)
    found = bundle.normalise(pixels, np.array([[True, False]]))
    np.testing.assert_allclose(found[:, 0, 0], [0, 1, -2], rtol=1e-6)
    assert torch.equal(found[:, 0, 1], torch.zeros(3))
    batch = bundle.normalise_batch(
        torch.from_numpy(pixels).float()[None], torch.tensor([[[True, False]]])
    )
    assert torch.equal(batch[0], found)


@pytest.mark.parametrize(
    ("details", "message"),
    [
        ({"gsd": 0.0}, "gsd"),
        ({"blend": "feather"}, "blend"),
        ({"tile": 64, "margin": 32}, "margin 32 leaves no core in a tile of 64"),
        ({"provenance": {"licence": 3}}, "provenance.licence"),
        ({"provenance": {"scores": {"miou": object()}}}, "provenance.scores: .*plain values"),
        ({"gsd": float("nan")}, "gsd"),
        ({"tiles": 3}, "tiles: Extra inputs"),
    ],
)
def test_cards_are_validated(
    details: dict[str, Any], message: str, make_bundle: MakeBundle
) -> None:
    with pytest.raises(BundleError, match=message):
        make_bundle(**details)


def test_scores_become_plain_values(make_bundle: MakeBundle) -> None:
    scores = {"oa": np.float32(0.5), "iou": (0.25, float("nan")), "count": np.int64(3), "ok": True}
    found = make_bundle(provenance={"scores": {"test": scores}}).card.provenance.scores
    assert found == {"test": {"oa": 0.5, "iou": [0.25, None], "count": 3, "ok": True}}
    assert json.dumps(found)


def test_a_tile_must_suit_the_network(make_bundle: MakeBundle) -> None:
    assert make_bundle(spec=UNET, tile=64).card.tile == 64
    with pytest.raises(BundleError, match=r"tile of 100 .* multiples of 8.* use 104"):
        make_bundle(spec=UNET, tile=100)


def test_network_bands_and_legend_must_agree(legend: Legend) -> None:
    bands = (BandNorm(name="red", mean=0, std=1, low=0, high=1),)
    with pytest.raises(BundleError, match="takes 2 bands and scores 3 classes; the card names 1"):
        Bundle.create(build(ModelSpec("pixel"), 2, 3), legend=legend, bands=bands)
    with pytest.raises(BundleError, match="bands must have different names"):
        Bundle.create(build(ModelSpec("pixel"), 2, 3), legend=legend, bands=bands * 2)
    with pytest.raises(BundleError, match="made by hand"):
        Bundle.create(PixelSegmenter(bands=1, classes=3), legend=legend, bands=bands)


def test_bands_come_from_a_sensor_with_the_statistics_of_the_data() -> None:
    band = Band("VV", -10, 4, -25, 5, scale=0.1, decibel=True, unit="dB", aliases=("vv",))
    same = BandNorm.of(band)
    assert (same.mean, same.std, same.scale, same.decibel) == (-10, 4, 0.1, True)
    assert same.aliases == ("vv",)
    assert BandNorm.of(band, mean=-12.5, std=3.5).mean == -12.5
    assert BandNorm.of(band, std=0.0).std == 1.0  # a band that never changes
    with pytest.raises(ValueError, match=r"low 5.0 is above high 1.0"):
        BandNorm(name="x", mean=0, std=1, low=5, high=1)
    with pytest.raises(ValueError, match="std"):
        BandNorm(name="x", mean=0, std=0, low=0, high=1)


def test_another_card_or_network_makes_another_bundle(
    make_bundle: MakeBundle, legend: Legend
) -> None:
    bundle = make_bundle(provenance={"licence": "MIT"})
    changed = bundle.with_card(gsd=2.0)
    assert bundle.card.gsd is None
    assert (changed.card.gsd, changed.card.provenance.licence) == (2.0, "MIT")
    assert changed.model is bundle.model
    bigger = legend.extend([LandClass(40, "snow", (255, 255, 255))])
    model = build(ModelSpec("pixel"), 3, 4)
    grown = bundle.with_model(
        model, legend=bigger.to_dict(), provenance=Provenance(start=bundle.digest)
    )
    assert grown.legend.names == ("water", "forest", "town", "snow")
    assert grown.card.provenance.start == bundle.digest
    with pytest.raises(BundleError, match="must agree"):
        bundle.with_model(model)


def test_a_bundle_opens_scenes_as_a_sensor_with_its_bands(make_bundle: MakeBundle) -> None:
    sensor = make_bundle(sensor="aerial", gsd=0.5).sensor
    assert (sensor.name, sensor.gsd) == ("aerial", 0.5)
    assert sensor.names == ("red", "nir", "elevation")
    assert sensor.band("B8").name == "nir"
    elevation = sensor.band("elevation")
    assert (elevation.scale, elevation.mean, elevation.unit) == (0.1, 300.0, "m")


def test_awkward_bands_still_make_a_sensor(legend: Legend) -> None:
    flat = {"mean": 5.0, "std": 1.0, "low": 5.0, "high": 5.0}
    bands = (
        BandNorm(name="red", aliases=("R",), **flat),
        BandNorm(name="B4", aliases=("RED", "b04"), **flat),
    )
    model = build(ModelSpec("pixel"), bands, legend.names)
    sensor = Bundle.create(model, legend=legend, bands=bands).sensor
    assert sensor.band("red").name == "red"
    assert sensor.band("B04").name == "B4"
    assert sensor.band("r").low < sensor.band("r").high


@torch.no_grad()
def test_training_starts_from_a_bundle_with_other_bands_and_classes(
    make_bundle: MakeBundle,
) -> None:
    bundle = make_bundle(spec=UNET)
    model, report = bundle.start_model(("elevation", "blue", "red", "nir"), ("town", "snow"))
    assert model.training
    image = torch.randn(1, 3, 16, 16)
    elevation, red, nir = image[:, 2:], image[:, :1], image[:, 1:2]
    more = torch.cat([elevation, torch.randn(1, 1, 16, 16), red, nir], 1)
    old, new = bundle.model(image), model.eval()(more)
    torch.testing.assert_close(new[:, 0], old[:, 2])
    assert report.adapted == ("encoder.features.0.0.weight",)
    assert set(report.fresh) == {"classifier.weight", "classifier.bias"}
    same, report = bundle.start_model(bundle.bands, bundle.legend.names)
    assert torch.equal(same.eval()(image), old)
    assert not report.fresh
    assert not report.adapted


def test_a_bundle_describes_itself(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(spec=UNET, **FULL)
    text = bundle.describe()
    count = sum(parameter.numel() for parameter in bundle.model.parameters())
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for expected in (
        f"{count:,} parameters, image sides multiples of 8",
        "Bands 3 of aerial, 0.5 m per pixel",
        "elevation mean 300 std 150 usually -10 to 4000 m raw × 0.1 + 0",
        "Legend little, 3 classes",
        "10 water #0000ff",
        "20 forest #008000 never learned",
        "Mapping tile 128, margin 32, cosine, bfloat16, trained on patches of 64",
        f"Made 2031-02-03T04:05:06Z by covermap {__version__} (bundle format 1)",
        "Licence CC-BY-4.0",
        "Scores val.miou_present 0.3",
        f"Digest {bundle.digest}",
    ):
        assert expected in lines
    assert "encoder=mobilenet_v2" in text
    assert make_bundle().describe()


def test_the_schema_of_the_card_explains_itself() -> None:
    schema = BundleCard.model_json_schema()
    assert schema["additionalProperties"] is False
    assert schema["properties"]["gsd"]["description"] == "Metres per pixel."


def test_others_can_read_a_bundle_as_any_new_file(make_bundle: MakeBundle, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    path = make_bundle().save(tmp_path / "a.safetensors")
    assert path.stat().st_mode == plain.stat().st_mode


def test_limits_of_bands_are_kept(make_bundle: MakeBundle, tmp_path: Path) -> None:
    norm = BandNorm.of(Band("VV", -25, 25, -25, 0, clip=(-25, 0), nan=0))
    plain = make_bundle()
    bands = [norm, *plain.bands[1:]]
    path = tmp_path / "a.safetensors"
    Bundle.create(plain.model, legend=plain.legend, bands=bands).save(path)
    found = Bundle.load(path)
    assert found.bands[0] == norm
    assert found.sensor.bands[0].clip == (-25, 0)
    assert found.sensor.bands[0].nan == 0
    assert "clipped to -25 … 0, NaN is 0" in found.describe()
    with pytest.raises(ValueError, match="nan needs clip"):
        BandNorm(name="a", mean=0, std=1, low=0, high=1, nan=0)
    with pytest.raises(ValueError, match="clip"):
        BandNorm(name="a", mean=0, std=1, low=0, high=1, clip=(1, 0))


def test_cards_without_limits_are_as_before(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """Versions that know no limits refuse unknown entries, and digests must not change."""
    path = tmp_path / "a.safetensors"
    make_bundle().save(path)
    head, _ = header(path)
    card = json.loads(head["__metadata__"]["covermap.bundle"])["card"]
    assert set(card["bands"][0]) == {
        *("name", "mean", "std", "low", "high", "scale", "offset", "decibel", "unit"),
        *("wavelength_nm", "aliases"),
    }
    assert Bundle.load(path).digest == make_bundle().digest
