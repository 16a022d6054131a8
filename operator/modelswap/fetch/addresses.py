"""Which addresses may be fetched from: never those of the pod, the node or a metadata service, whatever a name says."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

import httpcore2

from modelswap.api.agent import ALLOWED_HOSTS

from .errors import FetchError


def check_host(host: str, shown: str) -> None:
    """Compare a host with those that the operator's settings allow.

    Raises:
        FetchError: it is not among them.

    """
    allowed = [name.strip().lower() for name in os.environ.get(ALLOWED_HOSTS, "").split(",") if name.strip()]
    if allowed and not any(fnmatchcase(host.lower(), pattern) for pattern in allowed):
        message = f"{shown} is at {host}, which the operator's setting fetchHosts does not allow"
        raise FetchError("ForbiddenAddress", message, permanent=True)


def check_endpoint(url: str, shown: str) -> None:
    """Look where a library is about to go that connects by itself.

    Raises:
        FetchError: it may not, or the address is none.

    """
    parts = urlsplit(url)
    check_host(parts.hostname or "", shown)
    # A name that cannot be resolved is the library's to tell.
    with suppress(OSError):
        resolve(parts.hostname or "", 443)


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, all of which may be connected to.

    Raises:
        FetchError: one of them is the pod's, the node's or a metadata service's.
        OSError: the name cannot be resolved.

    """
    found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for address in found:
        if is_forbidden(address):
            message = f"{host} is {address}, an address of the pod or the node itself, which nothing is fetched from"
            raise FetchError("ForbiddenAddress", message, permanent=True)
    return found


def is_forbidden(address: str) -> bool:
    """Whether it is loopback, link-local, multicast or no address of anyone."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    real = getattr(parsed, "ipv4_mapped", None) or parsed
    return bool(real.is_loopback or real.is_link_local or real.is_multicast or real.is_unspecified)


class GuardedBackend(httpcore2.SyncBackend):
    """Connects to the very address that was looked at: a name may resolve to another one a moment later."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """Try the host's addresses, one after the other."""
        try:
            addresses = resolve(host, port)
        except OSError as error:
            raise httpcore2.ConnectError(error) from error
        for address in addresses[:-1]:
            try:
                return super().connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return super().connect_tcp(addresses[-1], port, timeout, local_address, socket_options)
