"""Certificates and kubeconfigs of the cluster's parts, made with openssl."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from .commands import run
from .layout import API_PORT, API_SERVICE_ADDRESS, NODE_ADDRESS, Layout

DAYS = "3650"
FRONT_PROXY = "front-proxy-client"
"""Who may speak for others to the API servers that extend the cluster's."""


@dataclass(frozen=True)
class Identity:
    """Who a certificate speaks for."""

    name: str
    common_name: str
    organization: str = ""
    alternative_names: str = ""


def identities(layout: Layout) -> tuple[Identity, ...]:
    """Every part's own."""
    return (
        Identity(
            "apiserver",
            "kube-apiserver",
            alternative_names="DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,"
            "DNS:kubernetes.default.svc.cluster.local,DNS:localhost,"
            f"IP:{API_SERVICE_ADDRESS},IP:{NODE_ADDRESS},IP:127.0.0.1",
        ),
        Identity("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters"),
        Identity("admin", "admin", "system:masters"),
        Identity("controller-manager", "system:kube-controller-manager"),
        Identity("scheduler", "system:kube-scheduler"),
        Identity("kubelet", f"system:node:{layout.name}", "system:nodes"),
        Identity("kube-proxy", "system:kube-proxy"),
        Identity("coredns", "modelswap:coredns"),
        Identity("front-proxy-client", FRONT_PROXY),
    )


def ensure(layout: Layout) -> None:
    """Make what is missing."""
    pki = layout.pki
    pki.mkdir(parents=True, exist_ok=True)
    pki.chmod(0o700)
    log = layout.log_of("pki")
    if not (pki / "ca.crt").exists():
        _key(pki / "ca.key", log)
        run(
            ["openssl", "req", "-x509", "-new", "-key", pki / "ca.key", "-days", DAYS, "-subj", "/CN=modelswap-local"]
            + ["-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature", "-out", pki / "ca.crt"],
            log=log,
        )
    if not (pki / "service-accounts.key").exists():
        run(["openssl", "genrsa", "-out", pki / "service-accounts.key", "2048"], log=log)
    for identity in identities(layout):
        if not (pki / f"{identity.name}.crt").exists():
            _certificate(pki, identity, log)
        (pki / f"{identity.name}.kubeconfig").write_text(kubeconfig(pki, identity.name))
    layout.kubeconfig.write_text(kubeconfig(pki, "admin"))
    layout.kubeconfig.chmod(0o600)


def _key(path: Path, log: Path) -> None:
    run(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", path], log=log)


def _certificate(pki: Path, identity: Identity, log: Path) -> None:
    key, request, certificate = (pki / f"{identity.name}.{suffix}" for suffix in ("key", "csr", "crt"))
    subject = f"/O={identity.organization}" if identity.organization else ""
    _key(key, log)
    run(
        ["openssl", "req", "-new", "-key", key, "-subj", f"{subject}/CN={identity.common_name}", "-out", request],
        log=log,
    )
    usage = "serverAuth" if identity.alternative_names else "clientAuth"
    extensions = f"extendedKeyUsage={usage}\nkeyUsage=critical,digitalSignature\n"
    if identity.alternative_names:
        extensions += f"subjectAltName={identity.alternative_names}\n"
    (pki / "extensions").write_text(extensions)
    # Signed under a passing name: a certificate that is there is whole.
    part = certificate.with_suffix(".part")
    run(
        ["openssl", "x509", "-req", "-in", request, "-CA", pki / "ca.crt", "-CAkey", pki / "ca.key", "-CAcreateserial"]
        + ["-days", DAYS, "-extfile", pki / "extensions", "-out", part],
        log=log,
    )
    part.rename(certificate)


def kubeconfig(pki: Path, name: str) -> str:
    """A kubeconfig, as JSON, for a certificate."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "local",
            "clusters": [
                {
                    "name": "local",
                    "cluster": {
                        "server": f"https://{NODE_ADDRESS}:{API_PORT}",
                        "certificate-authority": str(pki / "ca.crt"),
                    },
                }
            ],
            "users": [
                {
                    "name": name,
                    "user": {
                        "client-certificate": str(pki / f"{name}.crt"),
                        "client-key": str(pki / f"{name}.key"),
                    },
                }
            ],
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": name, "namespace": "default"}}],
        },
        indent=2,
    )
