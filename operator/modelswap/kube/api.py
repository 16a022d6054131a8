"""Reads and writes of the Kubernetes API, in plain dictionaries."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from kubernetes.aio.client import ApiClient, ApiException, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from modelswap import metrics
from modelswap.api.v1alpha1.base import API_VERSION
from modelswap.errors import ChildRefusedError, NameTakenError
from modelswap.manifests.labels import MANAGER, SELECTOR

Manifest = dict[str, Any]

TIMEOUT_SECONDS = 10.0
PAGE_SIZE = 500

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

REFUSED = (400, 403, 422)
"""Statuses of what is the manifest's fault, or forbidden: again the same is of no use."""
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
        """Of all objects of the kind in the namespace, or in all when there is none."""
        api_version = API_VERSIONS.get(self.kind, "v1")
        root = "/api/v1" if api_version == "v1" else f"/apis/{api_version}"
        scope = f"/namespaces/{quote(self.namespace)}" if self.namespace else ""
        return f"{root}{scope}/{PLURALS[self.kind]}"


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

    def __init__(self, client: ApiClient, *, before_write: Callable[[], None] = lambda: None) -> None:
        self._client = client
        self._before_write = before_write
        """Raises when nothing may be written any more."""

    async def get(self, ref: Ref) -> Manifest | None:
        """One object, or None."""
        try:
            return await self._call("GET", ref.path)
        except ApiException as error:
            if error.status == NOT_FOUND:
                return None
            raise

    async def ensure(self, manifest: Manifest, *, exists: bool, rehearse: bool = False) -> Manifest:
        """Bring an object into being, or into shape; with `rehearse`, only see whether that can be.

        Raises:
            NameTakenError: the name belongs to an object that has another owner.
            ChildRefusedError: the API server does not take it.

        """
        ref = Ref(manifest["kind"], manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        if not exists and (found := await self.get(ref)) is not None and not _same_owner(found, manifest):
            raise NameTakenError(
                f"the {ref.kind} {ref.name} in this namespace exists and is not modelswap's: "
                "delete it, or choose another name"
            )
        try:
            return await self._apply(ref.path, manifest, rehearse=rehearse)
        except ApiException as error:
            if error.status in REFUSED:
                raise ChildRefusedError(f"Kubernetes refuses the {ref.kind} {ref.name}: {_message(error)}") from error
            raise

    async def apply_crd(self, manifest: Manifest) -> Manifest:
        """Bring a CustomResourceDefinition into being, or up to date."""
        name = quote(manifest["metadata"]["name"])
        return await self._apply(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}", manifest)

    async def apply_status(self, ref: Ref, status: Manifest, *, resource_version: str) -> Manifest:
        """Write a status, unless the object has changed since it was read (then ApiException 409)."""
        body = {
            "apiVersion": API_VERSION,
            "kind": ref.kind,
            "metadata": {"name": ref.name, "namespace": ref.namespace, "resourceVersion": resource_version},
            "status": status,
        }
        return await self._apply(f"{ref.path}/status", body)

    async def all_of(self, kind: str, namespace: str) -> AsyncIterator[Manifest]:
        """All objects of a kind, of one namespace or, when it is empty, of all; read in pages."""
        collection = Ref(kind, namespace, "").collection
        path = f"{collection}?limit={PAGE_SIZE}"
        while path:
            page = await self._call("GET", path)
            for item in page["items"]:
                yield item
            more = page["metadata"].get("continue")
            path = f"{collection}?limit={PAGE_SIZE}&continue={quote(more)}" if more else ""

    async def pod_metrics(self, namespace: str) -> list[Manifest]:
        """PodMetrics of all serving pods, of one namespace or, when it is empty, of all."""
        scope = f"namespaces/{quote(namespace)}/pods" if namespace else "pods"
        path = f"/apis/metrics.k8s.io/v1beta1/{scope}?labelSelector={quote(SELECTOR)}"
        return list((await self._call("GET", path)).get("items", []))

    async def set_finalizer(self, ref: Ref, finalizer: str, *, present: bool, uid: str) -> Manifest | None:
        """Put our finalizer on this very object, or take it off; None when the object has gone."""
        metadata = {"name": ref.name, "namespace": ref.namespace, "uid": uid}
        body = {
            "apiVersion": API_VERSION,
            "kind": ref.kind,
            "metadata": metadata | ({"finalizers": [finalizer]} if present else {}),
        }
        # Finalizers are a set in server-side apply: only ours is touched.
        try:
            return await self._apply(ref.path, body, manager=f"{MANAGER}-finalizer")
        except ApiException as error:
            if error.status == CONFLICT or (error.status == NOT_FOUND):
                return None
            raise

    async def create(self, ref: Ref, manifest: Manifest) -> Manifest:
        """Create an object; one that is there already is an ApiException 409."""
        return await self._call("POST", f"{ref.collection}?fieldManager={MANAGER}", manifest)

    async def delete(self, ref: Ref, *, uid: str, dependants_first: bool = False) -> None:
        """Delete this very object, and its dependants after it or before; one that has gone is fine."""
        policy = "Foreground" if dependants_first else "Background"
        body = {"propagationPolicy": policy, "preconditions": {"uid": uid}}
        try:
            await self._call("DELETE", ref.path, body)
        except ApiException as error:
            if error.status not in (NOT_FOUND, CONFLICT):
                raise

    async def _apply(self, path: str, body: Manifest, *, manager: str = MANAGER, rehearse: bool = False) -> Manifest:
        query = f"fieldManager={manager}&force=true" + ("&dryRun=All" if rehearse else "")
        return await self._call("PATCH", f"{path}?{query}", body, content_type="application/apply-patch+yaml")

    async def _call(
        self, verb: str, path: str, body: Mapping[str, Any] | None = None, *, content_type: str = "application/json"
    ) -> Manifest:
        if verb != "GET":
            self._before_write()
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


def _message(error: ApiException) -> str:
    """What the API server says in words."""
    try:
        return str(json.loads(error.body or "")["message"])
    except (ValueError, KeyError, TypeError):
        return f"{error.status} {error.reason}"


def _same_owner(found: Manifest, wanted: Manifest) -> bool:
    theirs = {ref["uid"] for ref in found["metadata"].get("ownerReferences", [])}
    ours = {ref["uid"] for ref in wanted["metadata"].get("ownerReferences", [])}
    return bool(ours & theirs) or (not ours and not theirs)


def client() -> ApiClient:
    """A client of the API server that `load_config` found."""
    return ApiClient(Configuration.get_default_copy())


__all__ = ["CONFLICT", "NOT_FOUND", "ApiException", "KubeApi", "Manifest", "Ref", "client", "load_config"]
