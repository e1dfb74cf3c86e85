from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from covermap.errors import ConfigError, InputError
from covermap.legend import load_legend
from covermap.models import importers
from covermap.models.importers import import_checkpoint, published
from covermap.models.importers.network import skeleton
from covermap.models.importers.published import Published, find, published_models
from covermap.models.importers.smp_layout import find_smp
from covermap.models.segmenter import ModelSpec
from covermap.sensors import load_sensor
from importers.makers import SMALL, class_weights, prefixed, save, smp_network

LEARNED = {"15cl": 15, "12cl": 12}
BANDS = {"rgb": 3, "rgbi": 4, "rgbie": 5}


@pytest.mark.parametrize("entry", published_models(), ids=lambda entry: entry.name)
def test_the_table_agrees_with_the_names(entry: Published) -> None:
    owner, _, repository = entry.name.partition("/")
    _, bands, learned, arch = repository.split("_")
    assert owner == "IGNF"
    assert entry.file == f"{repository}_weights.pth"
    assert len(load_sensor(entry.sensor).bands) == BANDS[bands]
    legend = load_legend(entry.legend)
    assert len(legend) == 19
    assert set(entry.unlearned) <= set(legend.values)
    assert len(legend) - len(entry.unlearned) == LEARNED[learned]
    assert arch == f"{entry.encoder.replace('_', '')}-{entry.decoder}"
    assert entry.licence == "Etalab 2.0"
    assert entry.importer in importers.importer_names()


def test_only_what_was_published_is_stated() -> None:
    models = published_models()
    assert len(models) == 8
    assert {entry.name.partition("_")[2]: entry.sha256 for entry in models if entry.sha256} == {
        "rgbie_15cl_resnet34-unet": ("e7be9248", "5888"),
        "rgbie_12cl_resnet34-unet": ("e28ac360", "3981"),
        "rgb_15cl_resnet34-fpn": ("8166bcf8", "c93a"),
        "rgb_15cl_mitb5-unet": ("bbb59e59", "f9"),
    }
    assert sorted(entry.size for entry in models if entry.size) == [
        92_789_265, 97_957_843, 97_957_843, 339_344_766,
    ]  # fmt: skip
    assert all(bool(entry.size) != bool(entry.megabytes) for entry in models)
    (scored,) = [entry for entry in models if entry.scores]
    assert scored.scores["miou_present"] == 0.5863
    # the mean over the 14 classes of the card is the score that it was corrected to
    values = list(scored.scores["iou"].values())
    assert sum(values) / 14 == pytest.approx(0.58625, abs=1e-5)
    assert set(scored.scores["iou"]) < set(load_legend("flair-19").names)


@pytest.mark.parametrize(
    "entry",
    [entry for entry in published_models() if entry.encoder == "resnet34"],
    ids=lambda entry: entry.name,
)
def test_sizes_are_those_of_the_networks(entry: Published) -> None:
    bands = len(load_sensor(entry.sensor).bands)
    spec = ModelSpec("smp", {"encoder": entry.encoder, "decoder": entry.decoder, "head_kernel": 3
                             if entry.decoder == "unet" else 1})  # fmt: skip
    tensors = skeleton(spec, bands, 19).state_dict().values()
    content = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    size = entry.size or 1e6 * (entry.megabytes or 0)
    assert content < size * 1.005
    assert content > size * 0.99


def test_names_with_and_without_owner_and_misspelt_ones() -> None:
    assert find("ignf/flair-inc_RGB_15cl_mitb5-unet").encoder == "mit_b5"
    assert find("FLAIR-INC_rgb_15cl_mitb5-unet").encoder == "mit_b5"
    with pytest.raises(InputError, match="Did you mean 'IGNF/FLAIR-INC_rgb_15cl_mitb5-unet'"):
        find("IGNF/FLAIR-INC_rgb_15cl_mitb5-unett")


@pytest.fixture
def little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Published, Path]:
    """A published model in IGN's layout whose file is small, and that file."""
    network = smp_network(bands=3)
    state = prefixed(network.state_dict(), "model.seg_model.")
    state["criterion.weight"] = class_weights()
    path = save(state, tmp_path / "little_weights.pth")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = replace(
        find("IGNF/FLAIR-INC_rgb_15cl_resnet34-unet"),
        name="IGNF/little",
        file=path.name,
        encoder=SMALL,
        size=path.stat().st_size,
        megabytes=None,
        sha256=(digest[:8], digest[-4:]),
        scores={"oa": 0.5},
    )
    monkeypatch.setattr(published, "published_models", lambda: (entry,))
    return entry, path


@pytest.mark.usefixtures("no_network")
def test_a_local_file_is_known_by_its_file_name(little: tuple[Published, Path]) -> None:
    entry, path = little
    bundle, report = import_checkpoint(path)
    assert bundle.card.provenance.licence == "Etalab 2.0"
    assert bundle.card.provenance.notes.endswith("published as IGNF/little")
    assert bundle.card.provenance.scores == {"card": {"oa": 0.5}}
    assert bundle.card.sensor == "aerial-rgb"
    barred = {c.value for c in bundle.legend.classes if c.name not in (bundle.card.learned or ())}
    assert barred == {15, 16, 17, 19}
    assert report.matched == report.total > 0
    moved = path.rename(path.with_name("other.pth"))
    again, _ = import_checkpoint(moved, name=entry.name)
    assert again.card.weights_sha256 == bundle.card.weights_sha256
    assert again.card.provenance.licence == "Etalab 2.0"
    with pytest.raises(ConfigError, match="--as flair"):
        import_checkpoint(moved)
    with pytest.raises(ConfigError, match="not as 'whu'"):
        import_checkpoint(moved, "whu", name=entry.name)
    with pytest.raises(InputError, match="no such file"):  # a file was meant: nothing is fetched
        import_checkpoint(path, name=entry.name)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 5}, r"bytes, expected 5\."),
        ({"size": None, "megabytes": 97.9}, "expected about 97.9 MB"),
        ({"sha256": ("00000000", "0000")}, "sha256 [0-9a-f]{64}, expected 00000000…0000"),
    ],
)
def test_another_file_than_the_published_one_is_refused(
    change: dict[str, Any],
    message: str,
    little: tuple[Published, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry, path = little
    monkeypatch.setattr(published, "published_models", lambda: (replace(entry, **change),))
    with pytest.raises(InputError, match=rf"not the file that was published.*{message}"):
        import_checkpoint(path)


def test_both_ends_of_a_checksum_are_compared(
    little: tuple[Published, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, path = little
    assert entry.sha256 is not None
    begin, end = entry.sha256
    for ends in ((begin, "wxyz"), ("wxyz", end)):
        other = replace(entry, sha256=ends)
        monkeypatch.setattr(published, "published_models", lambda other=other: (other,))
        with pytest.raises(InputError, match="not the file that was published"):
            import_checkpoint(path)


def test_what_the_card_and_the_loss_say_adds_up(
    little: tuple[Published, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, path = little
    monkeypatch.setattr(published, "published_models", lambda: (replace(entry, unlearned=(14,)),))
    bundle, _ = import_checkpoint(path, licence="mine")
    barred = {c.value for c in bundle.legend.classes if c.name not in (bundle.card.learned or ())}
    assert barred == {14, 15, 16, 17, 19}
    assert bundle.card.provenance.licence == "mine"


def test_a_file_of_ones_own_may_be_called_like_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "FLAIR-INC_rgb_15cl_resnet34-unet"
    assert published.recognise(name) == find(name)
    Path(name).touch()
    assert published.recognise(name) is None


@pytest.fixture
def hub(
    little: tuple[Published, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[bytes], None]]:
    """A hub on this machine that serves the little model; what it serves can be changed."""
    entry, path = little
    served = {"content": path.read_bytes()}

    class Hub(BaseHTTPRequestHandler):
        def answer(self, body: bool) -> None:
            content = served["content"]
            known = self.path == f"/{entry.name}/resolve/main/{entry.file}"
            self.send_response(200 if known else 404)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(content) if known else 0))
            self.end_headers()
            if body and known:
                self.wfile.write(content)

        def do_HEAD(self) -> None:
            self.answer(False)

        def do_GET(self) -> None:
            self.answer(True)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    use_hub(f"http://127.0.0.1:{server.server_port}", tmp_path / "cache", monkeypatch)
    yield lambda content: served.update(content=content)
    server.shutdown()
    server.server_close()


def use_hub(address: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = huggingface_hub.constants
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_a_name_is_fetched_from_the_hub_and_verified(
    hub: Callable[[bytes], None], little: tuple[Published, Path], tmp_path: Path
) -> None:
    little[1].rename(tmp_path / "away.pth")
    bundle, report = import_checkpoint("IGNF/little")
    assert report.path.is_relative_to(tmp_path / "cache")
    assert report.matched == report.total
    assert bundle.card.provenance.notes.endswith("published as IGNF/little")


def test_a_changed_download_is_refused(
    hub: Callable[[bytes], None], little: tuple[Published, Path]
) -> None:
    content = bytearray(little[1].read_bytes())
    content[-1] ^= 1
    hub(bytes(content))
    with pytest.raises(InputError, match="not the file that was published as IGNF/little"):
        import_checkpoint("IGNF/little")


def test_without_a_hub_the_way_round_is_said(
    little: tuple[Published, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    message = (
        r"IGNF/little: cannot be fetched .* Download https://huggingface.co/IGNF/little/resolve/"
        r"main/little_weights.pth on another machine, and: covermap import PATH --as flair "
        r"--name IGNF/little"
    )
    with pytest.raises(InputError, match=message):
        import_checkpoint("IGNF/little")


def test_a_misspelt_name_or_importer_teaches(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file.*Did you mean 'IGNF/FLAIR-INC_rgbi_15cl"):
        import_checkpoint("IGNF/FLAIR-INC_rgbi_15cl_resnet34_unet")
    path = save({}, tmp_path / "a.pth")
    with pytest.raises(ConfigError, match=r"no importer 'fliar'\. Did you mean 'flair'"):
        import_checkpoint(path, "fliar")
    with pytest.raises(ConfigError, match="'flair' has no option 'published'"):
        import_checkpoint(path, "flair", published=None)


def foreign(path: Path, *, published: Published | None = None, scale: int = 1) -> tuple[str, int]:
    """An importer of another package."""
    return path.name, scale


def test_importers_of_other_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("foreign", f"{__name__}:foreign", importers.ENTRY_POINTS)

    def entry_points(group: str, name: str = "foreign") -> list[EntryPoint]:
        return [point] if name == "foreign" else []

    monkeypatch.setattr(importers, "entry_points", entry_points)
    path = save({}, tmp_path / "a.pth")
    assert importers.importer_names() == (*importers.IMPORTERS, "foreign")
    assert import_checkpoint(path, "foreign", scale=3) == ("a.pth", 3)
    with pytest.raises(
        ConfigError, match=r"'foreign' has no option 'scael'\. Did you mean 'scale'"
    ):
        import_checkpoint(path, "foreign", scael=3)


def test_a_model_of_another_architecture_under_a_published_name_is_refused(
    little: tuple[Published, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, path = little
    other = replace(entry, decoder="fpn")
    monkeypatch.setattr(published, "published_models", lambda: (other,))
    with pytest.raises(
        InputError, match=rf"do not fit the network smp\(decoder=fpn, encoder={SMALL}"
    ):
        import_checkpoint(path)
    state = smp_network(bands=3).state_dict()
    assert find_smp(state, "a", SMALL).spec.options["decoder"] == "unet"
