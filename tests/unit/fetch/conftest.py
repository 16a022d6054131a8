"""A real S3 store, and a web server that does what it is told, on loopback."""

from __future__ import annotations

import copy
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import obstore
import pytest
from localcluster import tools
from localcluster.apiserver import free_port
from localcluster.layout import Layout
from modelswap.certificates import issue, new_authority
from modelswap.fetch import addresses, retry
from obstore.store import from_url

from .servers import wait_until_listening

KEY, SECRET = "test", "a-secret-of-the-store"


@pytest.fixture(scope="session")
def store_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The store of the demo, with a bucket `models`; its port."""
    program = tools.ensure_store(Layout.from_environment()) / "versitygw"
    folder, port = tmp_path_factory.mktemp("store"), free_port()
    (folder / "models").mkdir()
    environment = {"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
    command = [str(program), "--quiet", "--port", f"127.0.0.1:{port}", "posix", str(folder)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        wait_until_listening(process, port)
        yield port
    finally:
        process.kill()
        process.wait(timeout=10)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the environment that a Secret gives the fetch step."""

    def give(port: int, secret: str = SECRET) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")

    return give


Put = Callable[[str, bytes], object]


@pytest.fixture
def put(store_process: int, credentials: Callable[..., None]) -> Put:
    """Puts an object into the bucket `models`."""
    credentials(store_process)
    store = from_url("s3://models", client_options={"allow_http": True})
    return lambda key, content: obstore.put(store, key, content)


class Request(BaseHTTPRequestHandler):
    """One request; the test's own function answers it."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        # One handler has all requests of a connection.
        self.server.seen.append(copy.copy(self))
        self.server.answer(self)

    do_HEAD = do_GET  # noqa: N815 - the standard library's name

    def log_message(self, *_: Any) -> None:
        """Keep the test's output clean."""

    def reply(self, status: int, content: bytes = b"", **headers: str) -> None:
        """A whole answer; underscores in names of headers stand for dashes."""
        self.begin(status, Content_Length=str(len(content)), **headers)
        self.wfile.write(content)

    def begin(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def break_off(self) -> None:
        """End the connection in the middle of an answer."""
        self.wfile.flush()
        with suppress(OSError):  # the client may have been quicker
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True


class Server(ThreadingHTTPServer):
    """Keeps what it was asked."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, answer: Callable[[Request], None]) -> None:
        self.answer = answer
        self.seen: list[Request] = []
        super().__init__(("127.0.0.1", 0), Request)


@dataclass
class Site:
    """A running server."""

    server: Server
    scheme: str = "http"

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    @property
    def seen(self) -> list[Request]:
        return self.server.seen

    def url(self, path: str, *, user: str = "", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{user}{host}:{self.port}{path}"


Serve = Callable[..., Site]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts web servers: `serve(answer)`; with `tls=FILE` (certificate and key) over TLS."""
    running: list[Server] = []

    def start(answer: Callable[[Request], None], *, tls: Path | None = None) -> Site:
        server = Server(answer)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        running.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return Site(server, "https" if tls else "http")

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def tls(tmp_path: Path) -> tuple[Path, Path]:
    """Certificate with key of a server `localhost`, and the authority's certificate."""
    now = datetime.now(UTC)
    authority = new_authority(now)
    leaf = issue(authority, "localhost", client=False, now=now)
    certificate, trusted = tmp_path / "leaf.pem", tmp_path / "ca.pem"
    certificate.write_bytes(leaf.key + leaf.certificate)
    trusted.write_bytes(authority.certificate)
    return certificate, trusted


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PAUSE_SECONDS", (0.01,) * 5)


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """What stood in the folder's place before stands there still."""
    before = contents(folder)
    yield
    assert contents(folder) == before


def contents(folder: Path) -> dict[str, bytes]:
    """Relative path → content; what a broken attempt leaves aside does not count."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(".fetching/")}


@pytest.fixture(autouse=True)
def loopback_may_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers of tests are there, and no artifact of a cluster is."""
    forbidden = addresses.is_forbidden
    monkeypatch.setattr(addresses, "is_forbidden", lambda address: address != "127.0.0.1" and forbidden(address))
