"""A web server with the faults that hosts of data sets have."""

import hashlib
import http.server
import re
import time

PIECE = 1 << 14


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` by path. `faults[path]` is the name of a fault, with a number after a colon if it needs one:

    404, 429, 500: answer with this status
    page:STATUS: a web page
    cut:BYTES, cut_once:BYTES: close the connection after so many bytes, always or at the first request
    no_ranges[:BYTES]: ignore the Range header, and cut the answer
    too_long: announce more bytes than follow
    slow:SECONDS: pause after each 16 KiB
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, str] = {}
        self.served: dict[str, int] = {}  # bytes of bodies
        self.requests: list[tuple[str, str]] = []  # path, Range header
        self.url = f"http://127.0.0.1:{self.server_port}"

    def add(self, path: str, content: bytes, fault: str = "") -> str:
        self.files[path], self.faults[path] = content, fault
        return self.url + path

    def handle_error(self, request, client_address) -> None:
        """Ignore clients that close the connection."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *arguments) -> None:
        pass

    def do_GET(self) -> None:
        requested = self.headers.get("Range", "")
        self.server.requests.append((self.path, requested))
        fault, _, number = self.server.faults.get(self.path, "404").partition(":")
        if fault in ("404", "429", "500"):
            return self.answer(int(fault), b"sorry", {})
        if fault == "page":
            return self.answer(int(number), b"<html>Quota exceeded</html>", {"Content-Type": "text/html"})
        content = self.server.files[self.path]
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        ranged = re.fullmatch(r"bytes=(\d+)-", requested)
        start = int(ranged[1]) if ranged and fault != "no_ranges" else 0
        if self.headers.get("If-Range", tag) != tag:
            start = 0
        if start and start >= len(content):
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        total = len(content) + (10 if fault == "too_long" else 0)
        headers = {"ETag": tag, "Content-Type": "application/octet-stream"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        end = len(content)
        if number and (fault in ("cut", "no_ranges") or (fault == "cut_once" and start == 0)):
            end = min(end, start + int(number))
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
