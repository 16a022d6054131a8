"""The certificate authority's Secret, in the operator's own namespace."""

from __future__ import annotations

import base64
from datetime import datetime

from modelswap.certificates import KeyPair, new_authority
from modelswap.manifests.labels import MANAGED_BY, MANAGER

from .api import CONFLICT, ApiException, KubeApi, Ref

SECRET_NAME = "modelswap-agent-authority"  # noqa: S105 - a name


async def ensure_authority(api: KubeApi, namespace: str, now: datetime) -> KeyPair:
    """Read the authority; make it first if there is none. Of two that make one, the first wins."""
    ref = Ref("Secret", namespace, SECRET_NAME)
    secret = await api.get(ref)
    if secret is None:
        pair = new_authority(now)
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET_NAME, "namespace": namespace, "labels": {MANAGED_BY: MANAGER}},
            "type": "kubernetes.io/tls",
            "data": {"tls.crt": _encode(pair.certificate), "tls.key": _encode(pair.key)},
        }
        try:
            secret = await api.create(ref, manifest)
        except ApiException as error:
            if error.status != CONFLICT:
                raise
            secret = await api.get(ref)
    assert secret is not None
    return KeyPair(base64.b64decode(secret["data"]["tls.crt"]), base64.b64decode(secret["data"]["tls.key"]))


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()
