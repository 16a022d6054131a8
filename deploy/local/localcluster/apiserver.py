"""Etcd and kube-apiserver alone, on loopback: up in seconds, for tests of everything that needs no pod."""

from __future__ import annotations

import ctypes
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

from . import tools
from .commands import run, tail
from .errors import LocalClusterError
from .layout import NODE_ADDRESS, SERVICE_NETWORK, Layout
from .processes import wait_for

TOKEN = "local-test-administrator"  # noqa: S105 - of a server that lives for one test run, on loopback
READY_SECONDS = 60
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)  # loaded here: between fork and exec is no time for it


class ApiServer:
    """A real API server. Its processes end with us, however we end."""

    def __init__(self, layout: Layout | None = None) -> None:
        self._tools = tools.ensure(layout or Layout.from_environment())
        self._folder = Path(tempfile.mkdtemp(prefix="modelswap-api-"))
        self._processes: list[subprocess.Popen[bytes]] = []
        self._port = 0

    @property
    def kubectl(self) -> Path:
        """The program."""
        return self._tools / "kubectl"

    @property
    def helm(self) -> Path:
        """The program."""
        return self._tools / "helm"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self._folder / "kubeconfig"

    @property
    def url(self) -> str:
        """Of the server."""
        return f"https://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start both and wait until the server is ready.

        Call it from a thread that lives as long as the server is needed: the kernel ends both with that thread.

        Raises:
            LocalClusterError: one of them ended, or was not ready in time.

        """
        client, peer, self._port = free_ports(3)
        self._spawn(
            "etcd",
            f"--data-dir={self._folder / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{client}",
            f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )
        run(["openssl", "genrsa", "-out", self._folder / "sa.key", "2048"])
        (self._folder / "tokens.csv").write_text(f'{TOKEN},admin,admin,"system:masters"\n')
        self._spawn(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{client}",
            f"--secure-port={self._port}",
            "--bind-address=127.0.0.1",
            f"--advertise-address={NODE_ADDRESS}",  # loopback cannot be one, and the machine may have no other
            f"--cert-dir={self._folder / 'certificates'}",
            f"--service-account-key-file={self._folder / 'sa.key'}",
            f"--service-account-signing-key-file={self._folder / 'sa.key'}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
            f"--token-auth-file={self._folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            # Beta, and not yet on everywhere: artifacts of image:// need it.
            "--feature-gates=ImageVolume=true",
        )
        self._write_kubeconfig()
        if not wait_for(lambda: self._ready() or self._dead() is not None, READY_SECONDS):
            raise LocalClusterError(f"kube-apiserver was not ready in time\n{self._log('kube-apiserver')}")
        if dead := self._dead():
            raise LocalClusterError(f"{dead} ended\n{self._log(dead)}")

    def stop(self) -> None:
        """End both and remove their folder."""
        for process in reversed(self._processes):
            process.kill()
            process.wait(timeout=10)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> ApiServer:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _spawn(self, name: str, *arguments: str) -> None:
        with (self._folder / f"{name}.log").open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    [self._tools / name, *arguments],
                    stdout=log,
                    stderr=log,
                    preexec_fn=_die_with_parent,
                    env={"PATH": os.environ["PATH"], "HOME": str(self._folder)},
                )
            )

    def _dead(self) -> str | None:
        return next((Path(p.args[0]).name for p in self._processes if p.poll() is not None), None)  # type: ignore[index, arg-type]

    def _log(self, name: str) -> str:
        return tail(self._folder / f"{name}.log")

    def _ready(self) -> bool:
        request = urllib.request.Request(f"{self.url}/readyz", headers={"Authorization": f"Bearer {TOKEN}"})
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with urllib.request.urlopen(request, context=context, timeout=2) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _write_kubeconfig(self) -> None:
        cluster = {"server": self.url, "insecure-skip-tls-verify": True}
        self.kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "test",
                    "clusters": [{"name": "test", "cluster": cluster}],
                    "users": [{"name": "admin", "user": {"token": TOKEN}}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
                }
            )
        )


PORTS = range(20000, 32000)
"""Below those that the kernel gives to outgoing connections, one of which may take a port before its listener does."""


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Different ports of the loopback interface that nobody listens on."""
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            break
    return found


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
