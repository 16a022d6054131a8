"""A real OCI registry on loopback, and a client that pushes to it as `oras` and builders of images do."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from localcluster import tools
from localcluster.apiserver import free_port
from localcluster.layout import Layout

from .servers import wait_until_listening

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
TITLE = "org.opencontainers.image.title"


@dataclass
class Registry:
    """One that runs; `authorization` goes with every push."""

    folder: Path
    port: int
    authorization: str = ""
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, auth: Mapping[str, Any] | None = None) -> None:
        program = tools.ensure_registry(Layout.from_environment()) / "registry"
        configuration = {
            "version": 0.1,
            "log": {"accesslog": {"disabled": True}, "level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "blobs")}},
            "http": {"addr": self.host},
            **({"auth": auth} if auth else {}),
        }
        file = self.folder / "registry.yml"
        file.write_text(json.dumps(configuration))
        environment = {"OTEL_TRACES_EXPORTER": "none"}
        process = self.stack.enter_context(subprocess.Popen([program, "serve", str(file)], env=environment))
        self.stack.callback(process.kill)
        wait_until_listening(process, self.port)

    def push(self, repository: str, tag: str, layers: list[tuple[bytes, dict[str, Any]]], **more: Any) -> str:
        """An artifact or image: its layers with what their descriptors say beside digest and size; its digest."""
        described = [self._blob(repository, content) | about for content, about in layers]
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", **self._blob(repository, b"{}")},
            "layers": described,
            **more,
        }
        return self.put_manifest(repository, tag, manifest)

    def put_manifest(self, repository: str, reference: str, manifest: dict[str, Any]) -> str:
        document = json.dumps(manifest).encode()
        self._ask("PUT", f"/v2/{repository}/manifests/{reference}", document, manifest["mediaType"])
        return hashlib.sha256(document).hexdigest()

    def _blob(self, repository: str, content: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        place = self._ask("POST", f"/v2/{repository}/blobs/uploads/", b"", "")
        path = place.partition(self.host)[2]
        self._ask("PUT", f"{path}&digest={digest}", content, "application/octet-stream")
        return {"digest": digest, "size": len(content)}

    def _ask(self, method: str, path: str, body: bytes, kind: str) -> str:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Content-Type": kind} | ({"Authorization": self.authorization} if self.authorization else {})
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status in (201, 202), (answer.status, text)
        connection.close()
        return answer.headers.get("Location") or ""

    def blob_file(self, content: bytes) -> Path:
        """Where the registry itself keeps a blob."""
        digest = hashlib.sha256(content).hexdigest()
        return self.folder / f"blobs/docker/registry/v2/blobs/sha256/{digest[:2]}/{digest}/data"


def new_registry(folder: Path) -> Registry:
    return Registry(folder, free_port())


def titled(name: str, **annotations: str) -> dict[str, Any]:
    """Of a layer that is one file."""
    return {"mediaType": "application/octet-stream", "annotations": {TITLE: name, **annotations}}


def layer() -> dict[str, Any]:
    """Of a layer that is unpacked."""
    return {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
