from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from modelswap.certificates import KeyPair, issue, new_authority

NOW = datetime.now(UTC)


def context(purpose: ssl._SSLMethod, authority: KeyPair, leaf: KeyPair, folder: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(purpose)
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(cadata=authority.certificate.decode())
    file = folder / f"{purpose}.pem"
    file.write_bytes(leaf.key + leaf.certificate)
    made.load_cert_chain(file)
    return made


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(6):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert theirs.getpeercert()


def test_operator_and_agent_trust_each_other_and_nobody_else(tmp_path: Path) -> None:
    authority = new_authority(NOW)
    agent = issue(authority, "iris-1.0.0.ns.agent.modelswap.internal", client=False, now=NOW)
    operator = issue(authority, "operator.modelswap.internal", client=True, now=NOW)
    server = context(ssl.PROTOCOL_TLS_SERVER, authority, agent, tmp_path)
    handshake(
        context(ssl.PROTOCOL_TLS_CLIENT, authority, operator, tmp_path),
        server,
        "iris-1.0.0.ns.agent.modelswap.internal",
    )
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(context(ssl.PROTOCOL_TLS_CLIENT, authority, operator, tmp_path), server, "another.name")
    # An agent's own certificate is a server's: it cannot control another agent.
    with pytest.raises(ssl.SSLError):
        handshake(
            context(ssl.PROTOCOL_TLS_CLIENT, authority, agent, tmp_path),
            server,
            "iris-1.0.0.ns.agent.modelswap.internal",
        )


def test_a_certificate_is_renewed_in_time() -> None:
    leaf = issue(new_authority(NOW), "name", client=True, now=NOW)
    assert 50 < (leaf.renew_after - NOW).days < 70
