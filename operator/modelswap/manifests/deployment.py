"""The serving pods of a ModelVersion: proxy, agent, fetch step and model server."""

from __future__ import annotations

from typing import Any

from modelswap.api.agent import CONTROL_PORT, DIRECT_PORT, HANDOVER_PORT, OPS_PORT, PROXY_PATH, ROUTE_PORT
from modelswap.api.v1alpha1.model_runtime import ModelRuntime
from modelswap.api.v1alpha1.model_version import ModelVersion

from . import labels, names
from .child import Manifest, child
from .fetch import PROGRESS_FOLDER, fetch_container, model_mount, volumes
from .pod import AGENT, CONTAINER_SECURITY, MODEL_PATH, MODEL_SERVER, PROXY, ServingDefaults

TERMINATION_GRACE_SECONDS = 60
"""Time for requests in flight to end when a pod is deleted; a planned unload has drained before."""
USER = 65532

HUNG_GRACE_SECONDS = 10
"""Time to end for a model server that is stopped because it does not answer: nothing in flight is worth more."""

PROXY_START_SECONDS = 60
"""For the agent to write the proxy's configuration, before anybody asks whether the proxy is alive."""
RUN_MOUNT = {"name": "run", "mountPath": "/var/run/modelswap"}
"""What the proxy and the agent have in common."""

_END_SOON = {"terminationGracePeriodSeconds": HUNG_GRACE_SECONDS}


def deployment(version: ModelVersion, runtime: ModelRuntime, defaults: ServingDefaults) -> Manifest:
    """The Deployment of a loaded version."""
    meta, spec = version.metadata, version.spec
    pod_labels = labels.of_version(model=spec.model, version=spec.version, name=meta.name)
    return child(
        api_version="apps/v1",
        kind="Deployment",
        name=meta.name,
        owner=meta,
        owner_kind="ModelVersion",
        labels_=pod_labels,
        body={
            "spec": {
                "replicas": spec.replicas,
                "selector": {"matchLabels": {labels.MODEL_VERSION: meta.name}},
                # A changed template replaces a pod only when its successor serves.
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "revisionHistoryLimit": 1,
                "template": {
                    "metadata": {
                        "labels": pod_labels,
                        "annotations": {"kubectl.kubernetes.io/default-container": MODEL_SERVER},
                    },
                    "spec": _pod_spec(version, runtime, defaults),
                },
            }
        },
    )


def _pod_spec(version: ModelVersion, runtime: ModelRuntime, defaults: ServingDefaults) -> Manifest:
    name = version.metadata.name
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": TERMINATION_GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        # The agent starts before the fetch step, so that it can tell how far that is. The proxy waits for the agent to
        # configure it, and is the last to end.
        "initContainers": [_proxy(defaults), _agent(defaults), fetch_container(version, defaults)],
        "containers": [_model_server(version, runtime)],
        "volumes": [
            *volumes(version.spec.artifact, defaults),
            {"name": "run", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "agent", "projected": {"defaultMode": 0o440, "sources": _agent_files(name)}},
        ],
        **runtime.spec.pod_fields(),
    }


def _proxy(defaults: ServingDefaults) -> Manifest:
    return _sidecar(
        PROXY,
        defaults,
        {
            "command": ["sh", "/app/modelswap/agent/proxy.sh"],
            "resources": {"requests": {"cpu": "25m", "memory": "48Mi"}, "limits": {"memory": "384Mi"}},
            "ports": [
                {"name": "route", "containerPort": ROUTE_PORT},
                {"name": "direct", "containerPort": DIRECT_PORT},
                {"name": "handover", "containerPort": HANDOVER_PORT},
                {"name": "ops", "containerPort": OPS_PORT},
            ],
            # No startup probe: the agent, which it waits for, would never be started.
            "livenessProbe": _probe(PROXY_PATH, period=10, failures=3) | {"initialDelaySeconds": PROXY_START_SECONDS},
            "volumeMounts": [RUN_MOUNT],
        },
    )


def _sidecar(name: str, defaults: ServingDefaults, more: Manifest) -> Manifest:
    return {
        "name": name,
        "image": defaults.agent_image,
        "imagePullPolicy": defaults.image_pull_policy,
        "restartPolicy": "Always",
        "securityContext": CONTAINER_SECURITY,
        **more,
    }


def _agent(defaults: ServingDefaults) -> Manifest:
    more = {
        "args": ["run"],
        "resources": {"requests": {"cpu": "25m", "memory": "80Mi"}, "limits": {"memory": "256Mi"}},
        "ports": [{"name": "control", "containerPort": CONTROL_PORT}],
        "startupProbe": _probe("/live", period=1, failures=60),
        "readinessProbe": _probe("/ready", period=1, failures=3),
        "livenessProbe": _probe("/live", period=10, failures=3),
        "lifecycle": {"preStop": {"exec": {"command": ["python3", "-m", "modelswap.agent", "drain"]}}},
        "volumeMounts": [
            RUN_MOUNT,
            {"name": "agent", "mountPath": "/etc/modelswap", "readOnly": True},
            {"name": "fetch", "mountPath": PROGRESS_FOLDER, "readOnly": True},
        ],
    }
    return _sidecar(AGENT, defaults, more)


def _agent_files(name: str) -> list[Manifest]:
    tls = [{"key": key, "path": f"tls/{key}"} for key in ("tls.crt", "tls.key", "ca.crt")]
    return [
        {"configMap": {"name": names.agent_config(name)}},
        {"secret": {"name": names.agent_certificate(name), "items": tls}},
    ]


def _model_server(version: ModelVersion, runtime: ModelRuntime) -> Manifest:
    server, spec = runtime.spec.model_server, version.spec
    resources = spec.resources if spec.resources.limits or spec.resources.requests else server.resources
    container: Manifest = {
        "name": MODEL_SERVER,
        "image": server.image,
        "imagePullPolicy": server.image_pull_policy.value,
        "env": [
            {"name": "MODEL_NAME", "value": spec.model},
            {"name": "MODEL_VERSION", "value": spec.version},
            {"name": "MODEL_PATH", "value": MODEL_PATH},
            {"name": "MODEL_SERVER_PORT", "value": str(runtime.spec.port)},
            *_grpc_port(runtime),
            {"name": "HOME", "value": "/tmp"},  # noqa: S108 - the one writable folder in the container
            *({"name": variable.name, "value": variable.value} for variable in server.env),
        ],
        "resources": resources.model_dump(by_alias=True, exclude_defaults=True),
        "securityContext": CONTAINER_SECURITY,
        # The agent's word: the model answers. A server that does not get there in time is started again.
        "startupProbe": _probe("/model", period=1, failures=spec.load.timeout_seconds) | _END_SOON,
        # And one that hangs later.
        "livenessProbe": _probe("/model/live", period=5, failures=3) | _END_SOON,
        # The model server outlives the requests in flight: the agent says when the last one has ended.
        "lifecycle": {"preStop": {"httpGet": {"path": "/drained", "port": OPS_PORT}}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            model_mount(spec.artifact, read_only=True),
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        ],
    }
    for key, value in (("command", server.command), ("args", server.args)):
        if value:
            container[key] = list(value)
    return container


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": OPS_PORT},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


def _grpc_port(runtime: ModelRuntime) -> list[dict[str, str]]:
    port = runtime.spec.grpc_port
    return [{"name": "MODEL_SERVER_GRPC_PORT", "value": str(port)}] if port else []
