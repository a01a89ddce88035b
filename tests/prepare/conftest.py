"""A web server with every fault that data sets' hosts are known for."""

import hashlib
import http.server
import re
import threading
import time
from pathlib import Path

import pytest

PIECE = 1 << 14


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` by path. `faults[path]` is one of Handler's, with a number behind a colon where it needs one."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, str] = {}
        self.served: dict[str, int] = {}  # bytes of bodies
        self.requests: list[tuple[str, str]] = []  # path, range
        self.url = f"http://127.0.0.1:{self.server_port}"

    def add(self, path: str, content: bytes, fault: str = "") -> str:
        self.files[path], self.faults[path] = content, fault
        return self.url + path

    def handle_error(self, request, client_address) -> None:
        """A client that goes away is part of the tests."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *arguments) -> None:
        pass

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.server.requests.append((self.path, asked))
        fault, _, number = self.server.faults.get(self.path, "404").partition(":")
        if fault in ("404", "429", "500"):
            return self.answer(int(fault), b"sorry", {})
        if fault == "quota":  # 403, or 200 as Google Drive does
            return self.answer(int(number), b"<html>Quota exceeded</html>", {"Content-Type": "text/html; charset=x"})
        content = self.server.files[self.path]
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and fault != "norange" else 0
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        if self.headers.get("If-Range", tag) != tag:
            start = 0
        headers = {"ETag": tag, "Content-Type": "application/octet-stream"}
        if start and start >= len(content) and fault != "lying":
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        total = len(content) + (10 if fault == "lying" else 0)
        if start:
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        end = len(content)
        if fault in ("interrupt", "norange") and number:
            end = min(end, start + int(number))
        if fault == "once" and start == 0:
            end = min(end, int(number))
        pause = float(number) if fault == "slow" else 0
        self.answer(206 if start else 200, content[start:end], headers, total - start, pause)

    def answer(self, status: int, body: bytes, headers: dict, length: int | None = None, pause: float = 0) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": len(body) if length is None else length}.items():
            self.send_header(key, str(value))
        self.end_headers()
        for at in range(0, len(body), PIECE):
            piece = body[at : at + PIECE]
            self.wfile.write(piece)
            self.server.served[self.path] = self.server.served.get(self.path, 0) + len(piece)
            time.sleep(pause)
        self.close_connection = length is not None and length > len(body)


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def offline(monkeypatch) -> dict[str, str]:
    """Nothing but this machine can be reached, also where the tests run on a machine with a network."""
    dead = "http://127.0.0.1:9"
    environment = {
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), dead),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1"),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "with a space"
