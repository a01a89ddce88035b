"""Fixtures: a faulty web server, and an environment without network."""

import threading

import pytest

from .faulty_server import Server


@pytest.fixture
def server():
    server = Server()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def offline(monkeypatch) -> dict[str, str]:
    """Make all hosts but this machine unreachable, and return the environment that does so."""
    environment = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    environment |= dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment
