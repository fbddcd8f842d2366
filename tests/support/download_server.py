"""A server of files on this machine, which can be told to misbehave, and what the registry says of its file."""

import hashlib
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

DATA = random.Random(0).randbytes(300_000)


class Server(ThreadingHTTPServer):
    """Serves `data` at every path. Each of `faults` is used up by one request; all requests are kept."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.data, self.tag, self.ranges, self.if_range, self.more = DATA, '"1"', True, True, {}
        self.faults, self.requests, self.kind = [], [], "application/octet-stream"

    def handle_error(self, *args):
        """A client that hangs up is no news."""

    def url(self, path="file.bin"):
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server
        server.requests.append(dict(self.headers))
        fault = server.faults.pop(0) if server.faults else None
        if isinstance(fault, int):
            return self.send_error(fault)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", server.url())
            self.send_header("Content-Disposition", 'attachment; filename="../../owned"')
            return self.end_headers()
        data, start = server.data, 0
        wanted = self.headers.get("Range")
        valid = not server.if_range or self.headers.get("If-Range") in (server.tag, server.more.get("Last-Modified"))
        if wanted and server.ranges and valid:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(data) > 0:
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", server.kind)
        self.send_header("Content-Disposition", 'attachment; filename="../../owned"')
        for name, value in {"ETag": server.tag, **server.more}.items():
            self.send_header(name, value)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if fault != "no length":
            self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start : start + 100_000] if fault == "drop" else data[start:])
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def serving() -> Iterator[Server]:
    """A server that runs while the block does."""
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def entry(*urls: str, data: bytes = DATA, **changes: object) -> SimpleNamespace:
    """An entry of the registry of data sets for a file with these bytes at these URLs; changes: of its fields."""
    known = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "md5": hashlib.md5(data).hexdigest()}
    return SimpleNamespace(**{"file": "file.bin", "urls": urls, **known, **changes})
