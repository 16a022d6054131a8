"""The CustomResourceDefinitions, made from the pydantic models.

Run `python -m modelswap.api.crdgen DIRECTORY` to write them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .v1alpha1.base import GROUP, VERSION, Resource
from .v1alpha1.model_route import ModelRoute
from .v1alpha1.model_runtime import ModelRuntime
from .v1alpha1.model_version import ModelVersion

Schema = dict[str, Any]

MAX_MAP_KEYS = 64
"""Bound of maps that name none of their own, so that CEL's cost can be estimated."""

STATUS = '.status.conditions[?(@.type=="Ready")].reason'


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a CRD says beyond its schema."""

    model: type[Resource]
    plural: str
    short_name: str
    namespaced: bool
    columns: tuple[tuple[str, str, str, str], ...]
    """Name, type, JSONPath and description of a `kubectl get` column."""
    selectable: tuple[str, ...] = ()
    scale: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """CamelCase kind."""
        return self.model.__name__


KINDS = (
    Kind(
        model=ModelVersion,
        plural="modelversions",
        short_name="msv",
        namespaced=True,
        columns=(
            ("Model", "string", ".spec.model", "The model"),
            ("Version", "string", ".spec.version", "Its version"),
            ("Status", "string", STATUS, "Where the version stands"),
            ("Ready", "integer", ".status.readyReplicas", "Serving pods that are ready"),
            ("Desired", "integer", ".spec.replicas", "Serving pods that are wanted while loaded"),
            ("Routed By", "string", ".status.routedBy[*]", "Routes that need it"),
            ("Requests", "integer", ".status.requestCount", "Requests answered"),
            ("Age", "date", ".metadata.creationTimestamp", ""),
        ),
        selectable=(".spec.model", ".spec.version"),
        scale={
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    ),
    Kind(
        model=ModelRoute,
        plural="modelroutes",
        short_name="msr",
        namespaced=True,
        columns=(
            ("Model", "string", ".spec.model", "The model"),
            ("Wanted", "string", ".spec.version", "The version or range asked for"),
            ("Current", "string", ".status.currentVersion", "The version that serves"),
            ("Status", "string", STATUS, "Where the route stands"),
            ("Last Swap", "string", ".status.swap.state", "State of the running or last swap"),
            ("Kind", "string", ".status.swap.kind", "Swap or Rollback"),
            ("Age", "date", ".metadata.creationTimestamp", ""),
        ),
        selectable=(".spec.model",),
    ),
    Kind(
        model=ModelRuntime,
        plural="modelruntimes",
        short_name="msrt",
        namespaced=False,
        columns=(
            ("Protocol", "string", ".spec.protocol", "How its model server is spoken to"),
            ("Image", "string", ".spec.modelServer.image", "The model server's image"),
            ("Age", "date", ".metadata.creationTimestamp", ""),
        ),
    ),
)


def custom_resource_definition(kind: Kind) -> Schema:
    """The whole CRD of a kind."""
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": root_schema(kind.model)},
        "subresources": {"status": {}} if "status" in kind.model.model_fields else {},
        "additionalPrinterColumns": [
            {"name": name, "type": type_, "jsonPath": path} | ({"description": text} if text else {})
            for name, type_, path, text in kind.columns
        ],
    }
    if kind.scale:
        version["subresources"]["scale"] = dict(kind.scale)
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short_name],
                "categories": ["modelswap"],
            },
            "versions": [version],
        },
    }


def root_schema(model: type[Resource]) -> Schema:
    """The OpenAPI schema of a whole object: ours, within the envelope of every Kubernetes object."""
    schema = structural(model.model_json_schema(by_alias=True))
    schema["properties"] = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        # The API server allows only these two of metadata to be named in a CRD's schema.
        "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
    } | {key: value for key, value in schema["properties"].items() if key != "metadata"}
    schema["properties"].get("status", {}).pop("default", None)
    schema["required"] = ["spec"]
    return schema


def structural(document: Schema) -> Schema:
    """A JSON schema as pydantic writes it, as a structural schema: no references, no null, no titles, maps bounded."""
    definitions: Schema = document.get("$defs", {})

    def convert(node: Schema) -> Schema:
        node = _resolve(node, definitions)
        if node.get("x-kubernetes-int-or-string") or node.get("x-kubernetes-preserve-unknown-fields"):
            return _opaque(node)
        kept = _scalars({key: value for key, value in node.items() if key not in _DROPPED})
        if "properties" in node:
            kept["properties"] = {key: convert(value) for key, value in node["properties"].items()}
        if isinstance(node.get("items"), dict):
            kept["items"] = convert(node["items"])
        if isinstance(node.get("additionalProperties"), dict):
            kept["additionalProperties"] = convert(node["additionalProperties"])
            kept.setdefault("maxProperties", MAX_MAP_KEYS)
        return kept

    return convert(document)


def _scalars(node: Schema) -> Schema:
    """The keywords of one node in OpenAPI 3.0's dialect."""
    if node.get("default", "") is None:
        del node["default"]
    if "const" in node:
        node["enum"] = [node.pop("const")]
    for key in ("exclusiveMinimum", "exclusiveMaximum"):
        if key in node:  # OpenAPI 3.0 has a boolean beside the bound, where JSON Schema has the bound itself.
            node[key.replace("exclusiveM", "m")], node[key] = node[key], True
    return node


_DROPPED = {"$defs", "title", "additionalProperties", "properties", "items"}


def _resolve(node: Schema, definitions: Schema) -> Schema:
    """Follow a reference, and take the one branch of an optional value that is not null."""
    while "$ref" in node or "anyOf" in node or "allOf" in node:
        siblings = {key: value for key, value in node.items() if key not in ("$ref", "anyOf", "allOf")}
        if "$ref" in node:
            inner = definitions[node["$ref"].rsplit("/", 1)[-1]]
        else:
            if node.get("x-kubernetes-int-or-string"):
                return node
            union: list[Schema] = node.get("anyOf") or node.get("allOf") or []
            branches = [branch for branch in union if branch.get("type") != "null"]
            if len(branches) != 1:
                raise ValueError(f"a structural schema has no place for the union {branches}")
            inner = branches[0]
        node = inner | siblings
    return node


def _opaque(node: Schema) -> Schema:
    """A value whose inside the API server does not look into."""
    kept = {
        k: v for k, v in node.items() if k in ("description", "default", "pattern") or k.startswith("x-kubernetes-")
    }
    if kept.get("default", "") is None:
        del kept["default"]
    if "x-kubernetes-preserve-unknown-fields" in kept:
        kept["type"] = "object"
    else:
        kept["anyOf"] = [{"type": "integer"}, {"type": "string"}]
        kept["maxLength"] = 64
    return kept


def render() -> dict[str, str]:
    """File name → YAML of every CRD."""
    return {
        f"{GROUP}_{kind.plural}.yaml": yaml.safe_dump(custom_resource_definition(kind), sort_keys=False, width=120)
        for kind in KINDS
    }


def main() -> None:
    """Write the CRDs to the folder named on the command line."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in render().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
