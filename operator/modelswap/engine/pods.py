"""A Pod as Kubernetes tells it, as the planners see it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from modelswap.api.agent import AgentReport, FetchResult
from modelswap.manifests.deployment import AGENT, FETCH, MODEL_SERVER
from modelswap.planning.observed import ContainerState, ServingPod

Body = Mapping[str, Any]


def serving_pod(body: Body, report: AgentReport | None) -> ServingPod:
    """Read a Pod's status."""
    meta, status = body["metadata"], body.get("status", {})
    statuses = {s["name"]: s for s in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))}
    return ServingPod(
        name=meta["name"],
        uid=meta["uid"],
        ip=status.get("podIP", ""),
        ready=_condition(status, "Ready").get("status") == "True",
        terminating="deletionTimestamp" in meta or status.get("phase") in ("Failed", "Succeeded"),
        unschedulable=_unschedulable(status),
        fetch=container_state(statuses.get(FETCH, {})),
        fetched=_fetched(statuses.get(FETCH, {})),
        model_server=container_state(statuses.get(MODEL_SERVER, {})),
        agent=container_state(statuses.get(AGENT, {})),
        report=report,
    )


def container_state(status: Body) -> ContainerState:
    """Read one container's status."""
    state = status.get("state", {})
    ended = state.get("terminated") or status.get("lastState", {}).get("terminated") or {}
    waiting, running = state.get("waiting") or {}, state.get("running")
    return ContainerState(
        restarts=status.get("restartCount", 0),
        running=running is not None,
        started_at=datetime.fromisoformat(running["startedAt"]) if running and running.get("startedAt") else None,
        waiting_reason=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        exit_code=ended.get("exitCode"),
        exit_reason=ended.get("reason", ""),
        exit_message=ended.get("message", ""),
    )


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
