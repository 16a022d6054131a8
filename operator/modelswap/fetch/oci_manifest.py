"""Manifests and indices of OCI registries: pure."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from .errors import FetchError

MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
TITLE = "org.opencontainers.image.title"
UNPACK = "io.deis.oras.content.unpack"
"""What `oras push` marks a folder with: it travels as tar+gzip."""

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}

_Digest = Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")]


class _Document(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


class _Platform(_Document):
    os: str = ""
    architecture: str = ""


class _Descriptor(_Document):
    media_type: str = ""
    digest: _Digest
    size: Annotated[int, Field(ge=0)]
    annotations: dict[str, str] | None = None
    platform: _Platform | None = None


class _Manifest(_Document):
    layers: list[_Descriptor]


class _Index(_Document):
    manifests: list[_Descriptor]


_Body = TypeVar("_Body", _Manifest, _Index)


@dataclass(frozen=True)
class Layer:
    """One blob that the model needs."""

    sha256: str
    size: int
    title: str
    """Path of the file that it is; empty when it is to be unpacked."""


@dataclass(frozen=True)
class Manifest:
    """An artifact or image."""

    layers: tuple[Layer, ...]
    """In their order."""


def choose(document: bytes, shown: str) -> str | None:
    """Of an index, the digest of the manifest for this machine; None for what is a manifest.

    Raises:
        FetchError: the document is neither, or has nothing for this machine.

    """
    body = _json(document, shown)
    if "manifests" not in body:
        return None
    manifests = _validated(_Index, body, shown).manifests
    machine = platform.machine()
    wanted = _Platform(os="linux", architecture=_ARCHITECTURES.get(machine, machine))
    for entry in manifests:
        if entry.platform and (entry.platform.os, entry.platform.architecture) == (wanted.os, wanted.architecture):
            return entry.digest
    if len(manifests) == 1 and not manifests[0].platform:
        return manifests[0].digest
    message = f"{shown} has nothing for {wanted.os}/{wanted.architecture}: push it for this platform, or name a digest"
    raise FetchError("NoPlatform", message, permanent=True)


def listed(index: bytes, shown: str) -> set[str]:
    """The digests (hexadecimal) of all manifests of an index.

    Raises:
        FetchError: it is none.

    """
    return {_hex(entry.digest) for entry in _validated(_Index, _json(index, shown), shown).manifests}


def parse_manifest(document: bytes, shown: str) -> Manifest:
    """What the model's files are made of.

    Raises:
        FetchError: it is no manifest, or holds no file.

    """
    found = [_layer(entry, shown) for entry in _validated(_Manifest, _json(document, shown), shown).layers]
    layers = tuple(layer for layer in found if layer)
    if not layers:
        message = f"{shown} holds no file: push files with titles (oras push), or an image"
        raise FetchError("NotFound", message, permanent=True)
    return Manifest(layers)


def _layer(entry: _Descriptor, shown: str) -> Layer | None:
    annotations = entry.annotations or {}
    title = annotations.get(TITLE, "")
    kind = entry.media_type.removesuffix("+gzip").removesuffix(".gzip")
    if title and annotations.get(UNPACK) != "true":
        return Layer(_hex(entry.digest), entry.size, title)
    if title or kind.endswith("tar"):
        return Layer(_hex(entry.digest), entry.size, "")
    if kind.endswith("+zstd"):
        message = f"{shown} has a layer that is packed with zstd, which is not supported: use gzip"
        raise FetchError("UnsupportedLayer", message, permanent=True)
    return None


def _json(document: bytes, shown: str) -> dict[str, Any]:
    try:
        body = json.loads(document)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise FetchError("InvalidManifest", f"the manifest of {shown} is no JSON object", permanent=True)
    return body


def _validated(kind: type[_Body], body: dict[str, Any], shown: str) -> _Body:
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        message = f"the manifest of {shown} is not understood: {where}: {first['msg']}"
        raise FetchError("InvalidManifest", message, permanent=True) from error


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
