"""A network of one's own: nothing that is sent in it can leave the machine, and every address of it is ours."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from localcluster.layout import POD_NETWORK, SERVICE_NETWORK

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


@contextmanager
def own_network() -> Iterator[None]:
    """A network namespace for this thread, and what it starts, in which all pod and service addresses are local."""
    if os.geteuid() != 0:
        pytest.skip("only root may make a network namespace")
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _check(_LIBC.unshare(_CLONE_NEWNET))
        for command in (
            "link set lo up",
            f"route add local {POD_NETWORK} dev lo",
            f"route add local {SERVICE_NETWORK} dev lo",
        ):
            subprocess.run(["ip", *command.split()], check=True, timeout=10)
        yield
    finally:
        _check(_LIBC.setns(before, _CLONE_NEWNET))
        os.close(before)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
