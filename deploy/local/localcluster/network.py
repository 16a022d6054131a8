"""The cluster's network: one namespace without a way out of the machine."""

from __future__ import annotations

import json
from pathlib import Path

from .commands import run
from .layout import NODE_ADDRESS, POD_NETWORK, Layout

BRIDGE = "node0"
CNI_RESULTS = Path("/var/lib/cni/results")
"""Where the CNI library writes of every pod's network, whatever the runtime's own folders are."""

_SETTINGS = {
    "net.ipv4.ip_forward": "1",
    # Answers of a Service's pod to the pod that asked come back through the same bridge.
    "net.ipv4.conf.all.rp_filter": "0",
}


def up(layout: Layout) -> None:
    """Make the namespace and the node's interface; what is there already stays."""
    log = layout.log_of("network")
    if not exists(layout):
        layout.netns.unlink(missing_ok=True)
        run(["ip", "netns", "add", layout.name], log=log)
    inside = layout.enter
    links = run(inside("ip", "-o", "link", "show"))
    run(inside("ip", "link", "set", "lo", "up"), log=log)
    if f": {BRIDGE}:" not in links:
        run(inside("ip", "link", "add", BRIDGE, "type", "bridge"), log=log)
    run(inside("ip", "link", "set", BRIDGE, "up"), log=log)
    run(inside("ip", "address", "replace", f"{NODE_ADDRESS}/24", "dev", BRIDGE), log=log)
    # Nothing answers there; the API server only wants to see that there is a default route.
    run(inside("ip", "route", "replace", "default", "via", "192.0.2.254", "dev", BRIDGE), log=log)
    for name, value in _SETTINGS.items():
        run(inside("sysctl", "-qw", f"{name}={value}"), log=log)


def down(layout: Layout) -> None:
    """Remove the namespaces of the cluster and of its pods, and with them every interface in them."""
    _remove_pods(layout, CNI_RESULTS)
    if exists(layout):
        run(["ip", "netns", "delete", layout.name], log=layout.log_of("network"))


def _remove_pods(layout: Layout, results: Path) -> None:
    for container, namespaces in pod_namespaces(layout.name, results).items():
        for namespace in namespaces:
            if Path("/run/netns", namespace).exists():
                run(["ip", "netns", "delete", namespace], log=layout.log_of("network"))
        for record in results.glob(f"*-{container}-*"):
            record.unlink()


def pod_namespaces(network: str, results: Path) -> dict[str, set[str]]:
    """The network namespaces of a network's pods, by container, from what CNI has written down of them."""
    found = {}
    for path in results.glob(f"{network}-*"):
        try:
            record = json.loads(path.read_text())
        except ValueError:  # cut short
            continue
        if record["networkName"] == network:
            interfaces = record["result"].get("interfaces", [])
            found[record["containerId"]] = {Path(i["sandbox"]).name for i in interfaces if i.get("sandbox")}
    return found


def exists(layout: Layout) -> bool:
    """Whether the namespace is there; a start that was cut short leaves an empty file of its name."""
    try:
        return layout.netns.stat().st_dev == Path("/proc/self/ns/net").stat().st_dev
    except FileNotFoundError:
        return False


def write_cni(layout: Layout) -> None:
    """How pods are connected: a bridge, no address translation, ports of the node mapped."""
    folder = layout.state / "cni"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "10-modelswap.conflist").write_text(
        json.dumps(
            {
                "cniVersion": "0.4.0",
                "name": layout.name,
                "plugins": [
                    {
                        "type": "bridge",
                        "bridge": "pods0",
                        "isGateway": True,
                        "hairpinMode": True,
                        "ipMasq": False,
                        "ipam": {
                            "type": "host-local",
                            "ranges": [[{"subnet": POD_NETWORK}]],
                            "routes": [{"dst": "0.0.0.0/0"}],
                            "dataDir": str(layout.run / "addresses"),
                        },
                    },
                    {"type": "portmap", "capabilities": {"portMappings": True}},
                ],
            },
            indent=2,
        )
    )
