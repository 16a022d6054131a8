"""The fetch step of a serving pod, and the volumes that the artifact is in."""

from __future__ import annotations

from pathlib import PurePosixPath

from modelswap.api.agent import ALLOWED_HOSTS, FETCH_PROGRESS_FILE
from modelswap.api.v1alpha1.model_version import Artifact, ModelVersion

from .child import Manifest
from .pod import CONTAINER_SECURITY, FETCH, MODEL_PATH, ServingDefaults

CACHE_PATH = "/var/cache/modelswap"
PROGRESS_FOLDER = str(PurePosixPath(FETCH_PROGRESS_FILE).parent)


def fetch_container(version: ModelVersion, defaults: ServingDefaults) -> Manifest:
    """The step that brings the artifact, or looks at the one that is mounted, and verifies it."""
    artifact = version.spec.artifact
    container: Manifest = {
        "name": FETCH,
        "image": defaults.agent_image,
        "imagePullPolicy": defaults.image_pull_policy,
        "command": ["python3", "-m", "modelswap.fetch", *_arguments(version, defaults)],
        # Also when it is empty: what a Secret holds under this name does not count.
        "env": [{"name": ALLOWED_HOSTS, "value": defaults.fetch_hosts}],
        "securityContext": CONTAINER_SECURITY,
        # It shares the node for moments only: a higher request would keep pods from being scheduled all the time.
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}},
        "volumeMounts": [
            model_mount(artifact, read_only=_is_mounted(artifact)),
            {"name": "fetch", "mountPath": PROGRESS_FOLDER},
            {"name": "fetch-tmp", "mountPath": "/tmp"},  # noqa: S108 - a mount in the container
            *([{"name": "cache", "mountPath": CACHE_PATH}] if _is_cached(artifact, defaults) else []),
        ],
    }
    if artifact.secret_ref:
        container["envFrom"] = [{"secretRef": {"name": artifact.secret_ref.name}}]
    return container


def _arguments(version: ModelVersion, defaults: ServingDefaults) -> list[str]:
    artifact = version.spec.artifact
    arguments = ["--uri", artifact.uri, "--to", MODEL_PATH, "--progress", FETCH_PROGRESS_FILE]
    arguments += ["--max-bytes", str(artifact.max_bytes)]
    if artifact.sha256:
        arguments += ["--sha256", artifact.sha256]
    if artifact.keep_archive:
        arguments += ["--keep-archive"]
    if _is_mounted(artifact):
        arguments += ["--verify-only"]
    if _is_cached(artifact, defaults):
        arguments += ["--cache", CACHE_PATH, "--cache-max-bytes", str(defaults.artifact_cache_max_bytes)]
        arguments += ["--cache-key", version.metadata.namespace]
    return arguments


def volumes(artifact: Artifact, defaults: ServingDefaults) -> list[Manifest]:
    """Of the model's files and of the step itself."""
    made: list[Manifest] = [
        {"name": "models", **_source(artifact)},
        {"name": "fetch", "emptyDir": {"sizeLimit": "1Mi"}},
        {"name": "fetch-tmp", "emptyDir": {"sizeLimit": "64Mi"}},
    ]
    if _is_cached(artifact, defaults):
        made.append({"name": "cache", "hostPath": {"path": defaults.artifact_cache_path, "type": "DirectoryOrCreate"}})
    return made


def model_mount(artifact: Artifact, *, read_only: bool) -> Manifest:
    """Where the model's files are in a container."""
    mount: Manifest = {"name": "models", "mountPath": MODEL_PATH}
    if read_only:
        mount["readOnly"] = True
    scheme, _, rest = artifact.uri.partition("://")
    path = rest.partition("/")[2]
    if scheme == "pvc" and path:
        mount["subPath"] = path.rstrip("/")
        if not path.endswith("/"):
            mount["mountPath"] = f"{MODEL_PATH}/{PurePosixPath(path).name}"
    return mount


def _source(artifact: Artifact) -> Manifest:
    scheme, _, rest = artifact.uri.partition("://")
    if scheme == "pvc":
        return {"persistentVolumeClaim": {"claimName": rest.partition("/")[0], "readOnly": True}}
    if scheme == "image":
        return {"image": {"reference": rest, "pullPolicy": "IfNotPresent"}}
    return {"emptyDir": {}}


def _is_mounted(artifact: Artifact) -> bool:
    """Whether Kubernetes itself brings the files."""
    return artifact.uri.startswith(("pvc://", "image://"))


def _is_cached(artifact: Artifact, defaults: ServingDefaults) -> bool:
    """Only what is named by its digest can be found again."""
    return bool(defaults.artifact_cache_path and artifact.sha256) and not _is_mounted(artifact)
