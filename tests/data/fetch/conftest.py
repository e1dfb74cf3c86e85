"""A server on this machine that breaks connections as it is told."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest


@dataclass
class Server:
    """What is served, how the next answers go wrong, and what was asked for."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    etag: bool = True
    weak: bool = False
    ranges: bool = True
    length: bool = True

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"

    def ranges_asked(self) -> list[str]:
        return [asked for _, asked in self.asked]


def handler_of(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, asked = self.path.lstrip("/"), self.headers.get("Range", "")
            server.asked.append((name, asked))
            server.conditions.append(self.headers.get("If-Range", ""))
            fault = server.faults.pop(0) if server.faults else ""
            if fault.startswith("redirect "):
                self.send_response(302)
                self.send_header("Location", fault.split()[1])
                self.end_headers()
                return
            body = server.files.get(name)
            if fault.isdigit() or body is None:
                self.send_error(int(fault or 404))
                return
            self.answer(body, asked, fault)

        def answer(self, body: bytes, asked: str, fault: str) -> None:
            tag = f'"{hashlib.md5(body).hexdigest()}"'
            same = self.headers.get("If-Range", tag) == tag
            start = int(asked[6:-1]) if asked and server.ranges and same else 0
            if fault.startswith("from "):
                start = int(fault.split()[1])
            if start and start >= len(body):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            if server.etag:
                self.send_header("ETag", f"W/{tag}" if server.weak else tag)
            if server.length:
                self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            stop = start + int(fault.split()[1]) if fault.startswith("cut ") else len(body)
            with contextlib.suppress(ConnectionError):  # the other side had enough
                self.wfile.write(body[start:stop])

        def log_message(self, *words: object) -> None:
            pass

    return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on a free port."""
    state = Server()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler_of(state)) as http:
        state.address = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        http.shutdown()
        thread.join()


@pytest.fixture
def body() -> bytes:
    """Bytes that do not compress, a little more than two chunks' worth of megabytes."""
    return np.random.default_rng(0).bytes(2_300_000)
