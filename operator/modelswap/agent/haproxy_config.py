"""HAProxy's configuration. What lost requests without each line is told in docs/data-plane.md."""

from __future__ import annotations

from importlib import resources

from modelswap.api.agent import IDENTITY_PATH, MAX_PEERS, PROXY_PATH, VERSION_HEADER

from .settings import AgentSettings
from .state import TrafficState

HARD_STOP_SECONDS = 50
"""After SIGUSR1, for requests still in flight."""

GRPC_FAULTS = ("2", "4", "12", "13", "14", "15")
"""Status codes that tell of a fault of the server: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE,
DATA_LOSS (what gRPC's own mapping to HTTP has as 5xx)."""

ONE_STREAM = "proto h2 max-reuse 0"
"""A connection of its own for every gRPC request: a client's later ones would otherwise go on to a peer that has been
replaced, or to a model server that is about to close the connection."""

INACTIVITY = "600s"
"""A model may think this long between two bytes."""


def lua() -> str:
    """The program that holds."""
    return (resources.files(__package__) / "hold.lua").read_text()


def state_map(state: TrafficState) -> str:
    """The map at the start: what was in force before a restart still is."""
    return f"mode {state.haproxy_mode}\nhold {state.deadline_ms}\nid {state.hold_id or '-'}\n"


def render(
    settings: AgentSettings, state: TrafficState, *, model_version: str, model_port: int, grpc_port: int | None
) -> str:
    """The whole configuration."""
    path = settings.state_map
    identity = (
        f"http-request return status 200 content-type application/json hdr {VERSION_HEADER} {model_version} "
        f'string \'{{"modelVersion": "{model_version}"}}\' if {{ path {IDENTITY_PATH} }}'
    )

    def grpc(pool: str, condition: str = "") -> str:
        """A rule that sends gRPC there, if the model server takes it."""
        is_grpc = "{ req.hdr(content-type) -m beg application/grpc }"
        return f"  use_backend {pool} if {is_grpc} {condition}\n" if grpc_port else ""

    return f"""global
  nbthread 1
  maxconn 4000
  stats socket {settings.admin_socket} mode 600 level admin
  setenv MODELSWAP_STATE_MAP {path}
  lua-load {settings.run}/hold.lua
  hard-stop-after {HARD_STOP_SECONDS}s

defaults
  mode http
  timeout connect 2s
  timeout client {INACTIVITY}
  timeout server {INACTIVITY}
  timeout tunnel 1h
  timeout http-keep-alive 30s
  timeout http-request 10s
  option redispatch 1
  option abortonclose
  retries 3
  # Nothing that a model may have begun is sent again.
  retry-on conn-failure

frontend route
  bind {settings.address}:{settings.route_port}
  # The wait of a client that hangs up ends without a word from the program; his request asks nothing of the model.
  http-request set-var(txn.hold) str(waits) if {{ str(hold),map({path},0) -m int gt 0 }}
  http-request lua.hold if {{ var(txn.hold) -m found }}
  http-request reject if {{ var(txn.hold) -m str waits }}
  http-request return status 503 hdr Retry-After 1 content-type text/plain string "too many requests held" \
if {{ var(txn.hold) -m str shed }}
  http-request set-var(txn.mode) str(mode),map({path},local)
  {identity} !{{ var(txn.mode) -m str next }}
  # The client's connection ends with its answer, so that it finds its way to the new version.
  http-after-response set-header Connection close if {{ var(txn.mode) -m str next close }} !{{ status 101 }}
{grpc("next-grpc", "{ var(txn.mode) -m str next }")}\
  use_backend next if {{ var(txn.mode) -m str next }}
{grpc("local-grpc")}\
  # An open WebSocket is no request in flight: nobody waits for its end.
  use_backend upgraded if {{ req.hdr(Upgrade) -i -m str websocket }}
  default_backend local

frontend handover
  bind {settings.address}:{settings.handover_port}
  {identity}
{grpc("local-grpc")}\
  use_backend upgraded if {{ req.hdr(Upgrade) -i -m str websocket }}
  default_backend local

frontend direct
  bind {settings.address}:{settings.direct_port}
  {identity}
{grpc("direct-grpc")}\
  default_backend direct

{_http_backends(settings, model_version, model_port)}
{_grpc_backends(settings, model_version, grpc_port) if grpc_port else ""}
{_peers("next", state)}
{_peers("next-grpc", state, ONE_STREAM) if grpc_port else ""}
frontend ops
  bind {settings.address}:{settings.ops_port}
  timeout client 90s
  http-request use-service prometheus-exporter if {{ path /metrics }}
  http-request return status 200 content-type text/plain string ok if {{ path {PROXY_PATH} }}
  # Nobody knows while the agent is away, and a model server is not stopped for that.
  http-request return status 200 content-type text/plain string unknown \
if {{ path /model/live }} !{{ nbsrv(control) gt 0 }}
  http-request deny status 404 unless {{ path /live /ready /model /model/live /drained }}
  default_backend control

backend control
  timeout server 90s
  server control unix@{settings.ops_socket} check inter 500ms fall 1 rise 1
"""


def _http_backends(settings: AgentSettings, model_version: str, port: int) -> str:
    return "\n".join(
        f"""backend {name}
  # A model server may close an idle connection just as a request is sent on it, and the request is lost.
  option http-server-close
  http-response set-header {VERSION_HEADER} %[str("{model_version}")]
  server model {settings.model_address}:{port}
"""
        for name in ("local", "upgraded", "direct")
    )


def _grpc_backends(settings: AgentSettings, model_version: str, port: int) -> str:
    return "\n".join(
        f"""backend {name}
  http-response set-header {VERSION_HEADER} %[str("{model_version}")]
  http-response lua.grpc_error if {{ res.hdr(grpc-status) -m str {" ".join(GRPC_FAULTS)} }}
  server model {settings.model_address}:{port} {ONE_STREAM}
"""
        for name in ("local-grpc", "direct-grpc")
    )


def _peers(pool: str, state: TrafficState, more: str = "") -> str:
    servers = "\n".join(_peer(index, state, more) for index in range(MAX_PEERS))
    return f"""backend {pool}
  balance leastconn
  option http-server-close
{servers}
"""


def _peer(index: int, state: TrafficState, more: str) -> str:
    if index < len(state.peers):
        return f"  server s{index} {state.peers[index]} {more}"
    return f"  server s{index} 192.0.2.77:8080 {more} disabled"
