"""Fetching cannot be turned on the pod, the node or a cloud's metadata service."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from modelswap.api.agent import ALLOWED_HOSTS
from modelswap.fetch import addresses
from modelswap.fetch.__main__ import fetch

from .conftest import Request, Serve

METADATA = "http://169.254.169.254/latest/meta-data/iam"


@pytest.mark.parametrize(
    ("address", "forbidden"),
    [
        ("127.0.0.53", True),
        ("::1", True),
        ("::ffff:127.0.0.2", True),
        ("169.254.169.254", True),
        ("::ffff:169.254.169.254", True),
        ("fe80::1%eth0", True),
        ("0.0.0.0", True),
        ("224.0.0.1", True),
        ("10.96.0.10", False),
        ("192.168.1.2", False),
        ("93.184.216.34", False),
        ("fd00::1", False),
    ],
)
def test_addresses_of_the_pod_and_the_node_are_refused(address: str, forbidden: bool) -> None:
    assert addresses.is_forbidden(address) is forbidden


@pytest.mark.requirement("MM-8")
@pytest.mark.parametrize(
    "uri",
    [
        METADATA,
        "http://[::ffff:169.254.169.254]/model.bin",
        "http://2852039166/model.bin",
        "oci://169.254.169.254/models/iris:1",
    ],
)
def test_a_metadata_service_is_not_asked(uri: str, tmp_path: Path) -> None:
    result = fetch(uri, tmp_path, None)
    assert (result.reason, result.permanent) == ("ForbiddenAddress", True)


@pytest.mark.requirement("MM-8")
def test_nor_when_a_redirect_leads_there(serve: Serve, tmp_path: Path) -> None:
    site = serve(lambda request: request.reply(302, Location=METADATA))
    assert fetch(site.url("/model.bin"), tmp_path, None).reason == "ForbiddenAddress"


@pytest.mark.requirement("MM-8")
def test_nor_when_a_name_says_so_the_second_time(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that resolves to a good address when it is looked at, and to another when it is connected to."""
    site = serve(lambda request: request.reply(200, b"model"))
    answers = iter(["127.0.0.1", "169.254.169.254"])
    real = socket.getaddrinfo

    def lookup(host: str, port: int, *more: Any, **options: Any) -> Any:
        return real(next(answers) if host == "rebound.example" else host, port, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    uri = site.url("/model.bin", host="rebound.example")
    assert fetch(uri, tmp_path / "one", None).message == ""
    assert fetch(uri, tmp_path / "two", None).reason == "ForbiddenAddress"


@pytest.mark.requirement("MM-8")
@pytest.mark.parametrize(
    ("uri", "variable"),
    [("s3://bucket/model.bin", "AWS_ENDPOINT_URL"), ("hf://org/model", "HF_ENDPOINT")],
)
def test_nor_by_the_endpoint_of_a_store(
    uri: str, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "http://169.254.169.254")
    result = fetch(uri, tmp_path, None)
    assert (result.reason, result.permanent) == ("ForbiddenAddress", True)


@pytest.mark.requirement("MM-8")
def test_who_has_no_credentials_does_not_get_those_of_the_node(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def store(request: Request) -> None:
        asked.append(request.headers.get("Authorization") or "unsigned")
        request.reply(403)

    metadata = serve(lambda request: request.reply(200, b"{}"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", serve(store).url(""))
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", metadata.url(""))
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", metadata.url("/credentials"))
    assert fetch("s3://bucket/model.bin", tmp_path, None).reason == "AccessDenied"
    assert asked == ["unsigned"]
    assert metadata.seen == []


@pytest.mark.requirement("MM-8")
def test_an_operator_may_name_the_hosts_that_are_asked(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = serve(lambda request: request.reply(200, b"model"))
    site = serve(lambda request: request.reply(302, Location=elsewhere.url("/x", host="localhost")))
    monkeypatch.setenv(ALLOWED_HOSTS, "*.example.com, 127.0.0.1")
    result = fetch(site.url("/model.bin"), tmp_path, None)
    assert (result.reason, result.permanent) == ("ForbiddenAddress", True)
    assert "fetchHosts" in result.message
    assert elsewhere.seen == []
    for uri in ("https://models.example.org/m.bin", "s3://bucket/m.bin", "oci://models.example.org/iris:1"):
        assert fetch(uri, tmp_path, None).reason == "ForbiddenAddress"
    monkeypatch.setenv(ALLOWED_HOSTS, "127.0.0.1,LocalHost")
    monkeypatch.setattr(addresses, "is_forbidden", lambda address: False)
    assert fetch(site.url("/model.bin"), tmp_path, None).message == ""
