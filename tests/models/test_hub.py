"""The hub is asked once: what it answers, how long that takes, and what the cache still gives."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import segmentation_models_pytorch as library
from huggingface_hub import constants
from safetensors.torch import save_file

from covermap.errors import InputError
from covermap.models import hub as module
from covermap.models.hub import hub_or_cache, is_cached
from covermap.models.registry import ModelSpec, build

REVISION = "1" * 40


@dataclass
class Hub:
    """What a hub on this machine says to the question, the files that it has, and who asked."""

    address: str
    status: int = 200
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


def use(address: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one file; to anything else it answers with its status."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self, body: bool) -> None:
            state.asked.append(f"{self.command} {self.path}")
            content = state.files.get(self.path)
            self.send_response(state.status if content is None else 200)
            self.send_header("ETag", '"of-the-file"')
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if body:
                self.wfile.write(content or b"")

        def do_HEAD(self) -> None:
            self.answer(False)

        def do_GET(self) -> None:
            self.answer(True)

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state = Hub(f"http://127.0.0.1:{server.server_port}")
        state.files["/a/b/resolve/main/c"] = b"weights"
        use(state.address, tmp_path / "cache", monkeypatch)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        server.shutdown()
        thread.join()


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a port where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    use(address, tmp_path / "cache", monkeypatch)
    return address


@pytest.fixture
def mute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A port that takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.settimeout(0.2)
        use(f"http://127.0.0.1:{listening.getsockname()[1]}", tmp_path / "cache", monkeypatch)
        monkeypatch.setattr(module, "PATIENCE", 0.3)
        yield listening


def get() -> str:
    with hub_or_cache():
        return huggingface_hub.hf_hub_download("a/b", "c")


@pytest.mark.parametrize("status", [200, 401, 404, 405, 500])
def test_any_answer_will_do(hub: Hub, status: int) -> None:
    hub.status = status
    assert Path(get()).read_bytes() == b"weights"
    assert hub.asked[0] == "HEAD /"
    assert hub.asked[-2:] == ["HEAD /a/b/resolve/main/c", "GET /a/b/resolve/main/c"]


def test_what_the_hub_lacks_is_its_own_error(hub: Hub) -> None:
    hub.files.clear()
    hub.status = 404
    with pytest.raises(OSError, match=r"^(?!.*does not answer)"):
        get()


def test_a_closed_port_is_told_at_once(closed: str) -> None:
    began = time.perf_counter()
    with pytest.raises(ConnectionError, match=rf"^{closed} does not answer: .*refused"):
        get()
    assert time.perf_counter() - began < 2
    assert constants.HF_HUB_OFFLINE is False


def test_silence_is_waited_for_once(mute: socket.socket) -> None:
    began = time.perf_counter()
    with pytest.raises(
        ConnectionError, match=r"does not answer: (nothing came within 0\.3 s|.*imed)"
    ):
        get()
    assert time.perf_counter() - began < 2
    mute.accept()[0].close()
    with pytest.raises(TimeoutError):
        mute.accept()


def test_a_name_that_is_looked_up_forever_is_not_waited_for(
    closed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: done.wait(20) and [])
    with pytest.raises(ConnectionError, match=r"nothing came within 0\.1 s"):
        get()
    done.set()


def test_the_clients_own_patience_goes_before_ours(
    mute: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 20.0)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 1)
    began = time.perf_counter()
    with pytest.raises(ConnectionError, match="does not answer"):
        get()
    assert time.perf_counter() - began < 3


def test_what_is_in_the_cache_is_found_without_the_hub(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    use(hub.address, tmp_path / "cache", monkeypatch)
    path = get()
    use(closed, tmp_path / "cache", monkeypatch)
    assert get() == path
    hub.asked.clear()
    use(hub.address, tmp_path / "cache", monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert get() == path
    assert hub.asked == []
    assert constants.HF_HUB_OFFLINE is True


def test_errors_of_the_transport_become_errors_of_the_connection(hub: Hub) -> None:
    transport = module._transport_errors()
    assert transport
    with pytest.raises(ConnectionError, match="broken off"), hub_or_cache():
        raise transport[0]("broken off")
    with pytest.raises(ZeroDivisionError), hub_or_cache():
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("smp", {"encoder": "resnet18"}),
        ("smp", {"encoder": "tu-test_resnet"}),
        ("pspnet50", {}),
        ("hf", {"source": "nobody/nothing"}),
    ],
)
def test_families_say_within_seconds_that_the_hub_does_not_answer(
    family: str, options: dict[str, str], closed: str
) -> None:
    if family == "hf":
        pytest.importorskip("transformers")
    began = time.perf_counter()
    with pytest.raises(InputError, match=rf"\({closed} does not answer: .*\)\..*local f"):
        build(ModelSpec(family, options), 3, 2, pretrained=True)
    assert time.perf_counter() - began < 15  # libraries are loaded; the client would try for 23


@pytest.mark.usefixtures("no_network")
def test_cached_weights_of_a_named_encoder_need_no_question(closed: str, tmp_path: Path) -> None:
    source = library.encoders.encoders["resnet18"]["pretrained_settings"]["imagenet"]
    assert not is_cached(source["repo_id"], source["revision"], "config.json")
    folder = tmp_path / "cache" / f"models--{source['repo_id'].replace('/', '--')}"
    snapshot = folder / "snapshots" / source["revision"]
    snapshot.mkdir(parents=True)
    encoder = library.encoders.get_encoder("resnet18", weights=None)
    save_file(encoder.state_dict(), snapshot / "model.safetensors")
    assert not is_cached(source["repo_id"], source["revision"], "model.safetensors", "config.json")
    (snapshot / "config.json").write_text("{}")
    model = build(ModelSpec("smp", {"encoder": "resnet18"}), 3, 2, pretrained=True)
    stem = model.state_dict()["encoder.conv1.weight"]
    assert stem.equal(encoder.state_dict()["conv1.weight"])
