"""Reads and writes of the Kubernetes API, in plain dictionaries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from kubernetes.aio.client import ApiClient, ApiException, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from modelswap import metrics
from modelswap.api.v1alpha1.base import API_VERSION
from modelswap.errors import NameTakenError
from modelswap.manifests.labels import MANAGER

Manifest = dict[str, Any]

TIMEOUT_SECONDS = 10.0

PLURALS = {
    "ConfigMap": "configmaps",
    "Deployment": "deployments",
    "Event": "events",
    "Lease": "leases",
    "ModelRoute": "modelroutes",
    "ModelVersion": "modelversions",
    "Secret": "secrets",
    "Service": "services",
}
API_VERSIONS = {"Deployment": "apps/v1", "ModelRoute": API_VERSION, "ModelVersion": API_VERSION}

CONFLICT = 409
NOT_FOUND = 404


@dataclass(frozen=True)
class Ref:
    """Names one object."""

    kind: str
    namespace: str
    name: str

    @property
    def path(self) -> str:
        """Of the object in the API."""
        return f"{self.collection}/{quote(self.name)}"

    @property
    def collection(self) -> str:
        """Of all objects of the kind in the namespace."""
        api_version = API_VERSIONS.get(self.kind, "v1")
        root = "/api/v1" if api_version == "v1" else f"/apis/{api_version}"
        return f"{root}/namespaces/{quote(self.namespace)}/{PLURALS[self.kind]}"


async def load_config() -> None:
    """Find the API server: in a pod by its service account, elsewhere by KUBECONFIG.

    Raises:
        ConfigException: there is neither.

    """
    try:
        load_incluster_config()  # type: ignore[no-untyped-call]
    except ConfigException:
        await load_kube_config()  # type: ignore[no-untyped-call]


class KubeApi:
    """The calls that the operator makes. Every one has a timeout."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def get(self, ref: Ref) -> Manifest | None:
        """One object, or None."""
        try:
            return await self._call("GET", ref.path)
        except ApiException as error:
            if error.status == NOT_FOUND:
                return None
            raise

    async def ensure(self, manifest: Manifest, *, exists: bool) -> Manifest:
        """Bring an object into being, or into shape.

        Raises:
            NameTakenError: the name belongs to an object that has another owner.

        """
        ref = Ref(manifest["kind"], manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        if not exists and (found := await self.get(ref)) is not None and not _same_owner(found, manifest):
            raise NameTakenError(
                f"the {ref.kind} {ref.name} in this namespace exists and is not modelswap's: "
                "delete it, or choose another name"
            )
        return await self._apply(ref.path, manifest)

    async def apply_status(self, ref: Ref, status: Manifest, *, resource_version: str) -> Manifest:
        """Write a status, unless the object has changed since it was read (then ApiException 409)."""
        body = {
            "apiVersion": API_VERSION,
            "kind": ref.kind,
            "metadata": {"name": ref.name, "namespace": ref.namespace, "resourceVersion": resource_version},
            "status": status,
        }
        return await self._apply(f"{ref.path}/status", body)

    async def create(self, ref: Ref, manifest: Manifest) -> Manifest:
        """Create an object; one that is there already is an ApiException 409."""
        return await self._call("POST", f"{ref.collection}?fieldManager={MANAGER}", manifest)

    async def delete(self, ref: Ref, *, uid: str) -> None:
        """Delete this very object, and its dependants after it; one that has gone is fine."""
        body = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            await self._call("DELETE", ref.path, body)
        except ApiException as error:
            if error.status not in (NOT_FOUND, CONFLICT):
                raise

    async def _apply(self, path: str, body: Manifest) -> Manifest:
        return await self._call(
            "PATCH", f"{path}?fieldManager={MANAGER}&force=true", body, content_type="application/apply-patch+yaml"
        )

    async def _call(
        self, verb: str, path: str, body: Mapping[str, Any] | None = None, *, content_type: str = "application/json"
    ) -> Manifest:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, verb, body)
        response = await self._client.call_api(
            verb,
            f"{self._client.configuration.host}{path}",
            header_params=headers,
            body=body,
            _request_timeout=TIMEOUT_SECONDS,
        )
        data: bytes = await response.read()  # type: ignore[no-untyped-call]
        metrics.API_CALLS.labels(verb, str(response.status)).inc()
        if not 200 <= response.status < 300:
            raise ApiException(status=response.status, reason=response.reason, body=data.decode(errors="replace"))
        result: Manifest = json.loads(data)
        return result


def _same_owner(found: Manifest, wanted: Manifest) -> bool:
    theirs = {ref["uid"] for ref in found["metadata"].get("ownerReferences", [])}
    ours = {ref["uid"] for ref in wanted["metadata"].get("ownerReferences", [])}
    return bool(ours & theirs) or (not ours and not theirs)


def client() -> ApiClient:
    """A client of the API server that `load_config` found."""
    return ApiClient(Configuration.get_default_copy())


__all__ = ["CONFLICT", "NOT_FOUND", "ApiException", "KubeApi", "Manifest", "Ref", "client", "load_config"]
