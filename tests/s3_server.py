"""moto's S3 server in a process of its own, and a proxy before it that is slow and fails at random."""

import random
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = ("slow", "error", "refused", "lost", "half")
"""A late reply; a 503; a connection cut before the request is passed on, after it, or in the middle of the reply."""

_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@dataclass(frozen=True)
class Server:
    """A server on loopback."""

    port: int

    def bucket(self) -> str:
        """A new empty bucket."""
        name = f"b-{uuid.uuid4().hex[:12]}"
        assert self.ask("PUT", f"/{name}").status == 200
        return name

    def ask(self, method: str, path: str, body: bytes = b"") -> HTTPResponse:
        """A request past pyarrow."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body)
        return connection.getresponse()

    def address(self, place: str) -> str:
        """Of a bucket, or a folder in one."""
        return f"s3://{place}?endpoint_override=127.0.0.1:{self.port}&scheme=http&region=us-east-1"


@contextmanager
def started_server() -> Iterator[Server]:
    """moto's."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        server = Server(found.getsockname()[1])
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(server.port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while True:
            try:
                server.ask("GET", "/").read()
                break
            except OSError:
                assert process.poll() is None, "moto's server has ended"
                assert time.monotonic() < until, "moto's server does not answer"
                time.sleep(0.1)
        yield server
    finally:
        process.kill()
        process.wait()


class FaultyProxy(ThreadingHTTPServer):
    """Passes requests on, or does not.

    Args:
        server: to pass them on to.
        share: of requests with a fault.
        seed: of the faults.
        faults: that may happen.
    """

    daemon_threads = True

    def __init__(self, server: Server, share: float, seed: int = 0, faults: tuple[str, ...] = FAULTS) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind, self._share, self._faults = server, share, faults
        self._random, self._lock = random.Random(seed), threading.Lock()
        self.happened: Counter[str] = Counter()
        self.requests = 0

    def fault(self) -> str | None:
        """What befalls the next request."""
        with self._lock:
            self.requests += 1
            if self._random.random() >= self._share:
                return None
            fault = self._random.choice(self._faults)
            self.happened[fault] += 1
            return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FaultyProxy

    def _pass_on(self) -> None:
        body = self._body()
        fault = self.server.fault()
        if fault == "slow":
            time.sleep(0.3)
        elif fault == "error":
            self._answer(503, [("Content-Type", "application/xml")], _SLOW_DOWN)
            return
        elif fault == "refused":
            self._cut()
            return
        connection = HTTPConnection("127.0.0.1", self.server.behind.port, timeout=60)
        connection.request(self.command, self.path, body, dict(self.headers.items()))
        response = connection.getresponse()
        content = response.read()
        if fault == "lost":
            self._cut()
            return
        kept = [(name, value) for name, value in response.getheaders() if name.lower() not in _OF_THE_CONNECTION]
        self._answer(response.status, kept, content, whole=fault != "half")

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on  # noqa: N815 - the library's names

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        del self.headers["Transfer-Encoding"]
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, whole: bool = True) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content if whole else content[: len(content) // 2])
        if not whole:
            self._cut()

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


_OF_THE_CONNECTION = {"connection", "transfer-encoding", "date", "server"}


@contextmanager
def faulty(
    server: Server, share: float, seed: int = 0, faults: tuple[str, ...] = FAULTS
) -> Iterator[tuple[Server, FaultyProxy]]:
    """The server as it is seen through a faulty proxy, and the proxy."""
    proxy = FaultyProxy(server, share, seed, faults)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield Server(proxy.server_address[1]), proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
