"""The operator's own Prometheus metrics."""

from __future__ import annotations

from itertools import product

from prometheus_client import Counter, Gauge, Histogram

from modelswap.api.v1alpha1.model_route import SwapKind, SwapTrigger

RECONCILES = Counter("modelswap_reconciles_total", "Looks at an object, by how they ended", ["kind", "result"])
RECONCILE_SECONDS = Histogram("modelswap_reconcile_seconds", "Time of one look at an object", ["kind"])
QUEUE_DEPTH = Gauge("modelswap_queue_depth", "Objects that wait to be looked at")
QUEUE_AGE_SECONDS = Gauge("modelswap_queue_oldest_seconds", "How long the first in the queue has waited")
API_CALLS = Counter("modelswap_kubernetes_requests_total", "Requests to the Kubernetes API", ["verb", "code"])
AGENT_CALLS = Counter("modelswap_agent_requests_total", "Requests to agents", ["call", "result"])
AGENTS = Gauge("modelswap_agents_connected", "Agents that the operator is in touch with")
LEADER = Gauge("modelswap_leader", "Whether this replica leads")
SWAPS = Counter("modelswap_swaps_total", "Swaps that ended", ["kind", "trigger", "result"])
for _labels in product(SwapKind, SwapTrigger, ("completed", "failed")):
    # A counter that appears with its first event has never risen, as Prometheus sees it.
    SWAPS.labels(*_labels)
SWAP_SECONDS = Histogram(
    "modelswap_swap_seconds",
    "Time from a swap's start to its end",
    ["kind"],
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)
SWAP_HOLD_SECONDS = Histogram(
    "modelswap_swap_hold_seconds",
    "The longest that a request was kept waiting in a swap",
    ["kind"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
SWAP_PHASE_SECONDS = Histogram(
    "modelswap_swap_phase_seconds",
    "Time that a phase of a swap took",
    ["kind", "phase"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)
LOAD_SECONDS = Histogram(
    "modelswap_load_seconds",
    "Time from the end of a fetch to the model's first ready answer",
    ["namespace"],
    buckets=(0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 1800),
)
LOAD_FAILURES = Counter("modelswap_load_failures_total", "Failures of loads, by their cause", ["namespace", "reason"])
REQUESTS_HELD = Counter("modelswap_swap_requests_held_total", "Requests that were kept waiting", ["kind"])
REQUESTS_DRAINED = Counter("modelswap_swap_requests_drained_total", "Requests that ended before a hand-over", ["kind"])
REQUESTS_REMAINING = Counter(
    "modelswap_swap_requests_remaining_total", "Requests still in flight on the source when a swap ended", ["kind"]
)
