"""HAProxy's configuration. What lost requests without each line is told in docs/data-plane.md."""

from __future__ import annotations

from importlib import resources

from modelswap.api.agent import IDENTITY_PATH, MAX_PEERS, VERSION_HEADER

from .settings import AgentSettings
from .state import TrafficState

HARD_STOP_SECONDS = 50
"""After SIGUSR1, for requests still in flight."""

INACTIVITY = "600s"
"""A model may think this long between two bytes."""


def lua() -> str:
    """The program that holds."""
    return (resources.files(__package__) / "hold.lua").read_text()


def state_map(state: TrafficState) -> str:
    """The map at the start: what was in force before a restart still is."""
    return f"mode {state.haproxy_mode}\nhold {state.deadline_ms}\nid {state.hold_id or '-'}\n"


def render(settings: AgentSettings, state: TrafficState, *, model_version: str, model_port: int) -> str:
    """The whole configuration."""
    path = settings.state_map
    own = f'str("{model_version}")'
    identity = (
        f"http-request return status 200 content-type application/json hdr {VERSION_HEADER} {model_version} "
        f'string \'{{"modelVersion": "{model_version}"}}\' if {{ path {IDENTITY_PATH} }}'
    )
    peers = "\n".join(_peer(index, state) for index in range(MAX_PEERS))
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
  retries 3
  # Nothing that a model may have begun is sent again.
  retry-on conn-failure

frontend route
  bind {settings.address}:{settings.route_port}
  http-request lua.hold if {{ str(hold),map({path},0) -m int gt 0 }}
  http-request return status 503 hdr Retry-After 1 content-type text/plain string "too many requests held" \
if {{ var(txn.shed) -m found }}
  http-request set-var(txn.mode) str(mode),map({path},local)
  {identity} !{{ var(txn.mode) -m str next }}
  # The client's connection ends with its answer, so that it finds its way to the new version.
  http-after-response set-header Connection close if {{ var(txn.mode) -m str next close }} !{{ status 101 }}
  use_backend next if {{ var(txn.mode) -m str next }}
  default_backend local

frontend handover
  bind {settings.address}:{settings.handover_port}
  {identity}
  default_backend local

frontend direct
  bind {settings.address}:{settings.direct_port}
  {identity}
  default_backend direct

backend local
  # A model server may close an idle connection just as a request is sent on it, and the request is lost.
  option http-server-close
  http-response set-header {VERSION_HEADER} %[{own}]
  server model {settings.model_address}:{model_port}

backend direct
  option http-server-close
  http-response set-header {VERSION_HEADER} %[{own}]
  server model {settings.model_address}:{model_port}

backend next
  balance leastconn
  option http-server-close
{peers}

frontend ops
  bind {settings.address}:{settings.ops_port}
  timeout client 90s
  http-request use-service prometheus-exporter if {{ path /metrics }}
  http-request deny status 404 unless {{ path /live /ready /model /model/live /drained }}
  default_backend control

backend control
  timeout server 90s
  server control unix@{settings.ops_socket}
"""


def _peer(index: int, state: TrafficState) -> str:
    if index < len(state.peers):
        return f"  server s{index} {state.peers[index]}"
    return f"  server s{index} 192.0.2.77:8080 disabled"
