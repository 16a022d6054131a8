"""A Pod as Kubernetes tells it, as the planners see it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from modelswap.api.agent import AgentReport, FetchResult
from modelswap.api.quantity import parse_quantity
from modelswap.manifests.pod import AGENT, FETCH, MODEL_SERVER, PROXY
from modelswap.planning.observed import ContainerState, ServingPod

Body = Mapping[str, Any]


def serving_pod(body: Body, report: AgentReport | None, measured_memory: int | None = None) -> ServingPod:
    """Read a Pod's status. `measured_memory` in bytes, of the model server."""
    meta, status = body["metadata"], body.get("status", {})
    statuses = {s["name"]: s for s in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))}
    return ServingPod(
        name=meta["name"],
        uid=meta["uid"],
        ip=status.get("podIP", ""),
        ready=_condition(status, "Ready").get("status") == "True",
        terminating="deletionTimestamp" in meta or status.get("phase") in ("Failed", "Succeeded"),
        orphaned=not any(owner.get("controller") for owner in meta.get("ownerReferences", ())),
        **_end_of(status),
        unschedulable=_unschedulable(status),
        fetch=container_state(statuses.get(FETCH, {})),
        fetched=_fetched(statuses.get(FETCH, {})),
        model_server=container_state(statuses.get(MODEL_SERVER, {})),
        proxy=container_state(statuses.get(PROXY, {})),
        agent=container_state(statuses.get(AGENT, {})),
        report=report,
        measured_memory_bytes=measured_memory,
        memory_limit_bytes=_memory_limit(body),
    )


def container_state(status: Body) -> ContainerState:
    """Read one container's status."""
    state = status.get("state", {})
    ended = state.get("terminated") or status.get("lastState", {}).get("terminated") or {}
    waiting, running = state.get("waiting") or {}, state.get("running")
    return ContainerState(
        restarts=status.get("restartCount", 0),
        running=running is not None,
        started_at=_time((running or {}).get("startedAt")),
        waiting_reason=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        exit_code=ended.get("exitCode"),
        ended_started_at=_time(ended.get("startedAt")),
        ended_at=_time(ended.get("finishedAt")),
        exit_reason=ended.get("reason", ""),
        exit_message=ended.get("message", ""),
    )


def _time(stamp: str | None) -> datetime | None:
    return datetime.fromisoformat(stamp) if stamp else None


def _end_of(status: Body) -> dict[str, Any]:
    """Of a pod that Kubernetes has ended for good; one that runs to its end by itself has failed, too."""
    if status.get("phase") not in ("Failed", "Succeeded"):
        return {}
    ends = [s.get("state", {}).get("terminated", {}).get("finishedAt") for s in status.get("containerStatuses", ())]
    moved = _condition(status, "DisruptionTarget") or _condition(status, "Ready")
    stamp = moved.get("lastTransitionTime") or max(filter(None, ends), default=None) or status.get("startTime")
    return {
        "failed_reason": status.get("reason") or status["phase"],
        "failed_message": status.get("message", ""),
        "failed_at": _time(stamp),
    }


def _memory_limit(body: Body) -> int | None:
    for container in body.get("spec", {}).get("containers", ()):
        if container["name"] == MODEL_SERVER:
            limit = container.get("resources", {}).get("limits", {}).get("memory")
            return int(parse_quantity(limit)) if limit else None
    return None


def pods_refused(deployment: Body) -> str:
    """Why a Deployment's next pod cannot be created; empty when it can."""
    return str(_condition(deployment.get("status", {}), "ReplicaFailure").get("message", ""))


def _condition(status: Body, type_: str) -> Body:
    return next((c for c in status.get("conditions", ()) if c["type"] == type_), {})


def _unschedulable(status: Body) -> str:
    scheduled = _condition(status, "PodScheduled")
    return str(scheduled.get("message", "")) if scheduled.get("reason") == "Unschedulable" else ""


def _fetched(status: Body) -> FetchResult | None:
    for state in (status.get("state", {}), status.get("lastState", {})):
        message = (state.get("terminated") or {}).get("message", "")
        if message:
            try:
                return FetchResult.model_validate_json(message)
            except ValidationError:
                return None  # killed before it could say anything: the exit code tells
    return None
