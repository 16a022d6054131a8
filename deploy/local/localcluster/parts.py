"""The parts of the cluster: how each is started and when it is ready."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .layout import (
    API_PORT,
    DNS_SERVICE_ADDRESS,
    NODE_ADDRESS,
    PAUSE_IMAGE,
    POD_NETWORK,
    SERVICE_NETWORK,
    Layout,
)
from .pki import FRONT_PROXY

ETCD_PORT = 2379


@dataclass(frozen=True)
class Part:
    """One program of the cluster."""

    name: str
    command: Callable[[Layout, Path], list[str]]
    """From the layout and the folder of the built tools."""
    ready: tuple[str, ...]
    """A command, run in the cluster's network, that succeeds once the part is ready; `{…}` are filled in."""
    ready_seconds: float = 60


def etcd(layout: Layout, tools: Path) -> list[str]:
    """The store, on the namespace's loopback only."""
    return [
        str(tools / "etcd"),
        f"--data-dir={layout.state / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{ETCD_PORT}",
        f"--advertise-client-urls=http://127.0.0.1:{ETCD_PORT}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=default=http://127.0.0.1:2380",
        "--log-level=warn",
    ]


def apiserver(layout: Layout, tools: Path) -> list[str]:
    """The API server, with RBAC and an audit log."""
    pki = layout.pki
    return [
        str(tools / "kube-apiserver"),
        f"--etcd-servers=http://127.0.0.1:{ETCD_PORT}",
        f"--advertise-address={NODE_ADDRESS}",
        f"--secure-port={API_PORT}",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--kubelet-client-certificate={pki / 'apiserver-kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'apiserver-kubelet-client.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-key-file={pki / 'service-accounts.key'}",
        f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement",
        # For API servers that extend this one, such as that of metrics.
        f"--requestheader-client-ca-file={pki / 'ca.crt'}",
        f"--requestheader-allowed-names={FRONT_PROXY}",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={pki / 'front-proxy-client.crt'}",
        f"--proxy-client-key-file={pki / 'front-proxy-client.key'}",
        "--allow-privileged=true",
        f"--audit-policy-file={layout.state / 'audit-policy.json'}",
        f"--audit-log-path={layout.log_of('audit')}",
        "--audit-log-maxsize=100",
        "--audit-log-maxbackup=2",
    ]


def controller_manager(layout: Layout, tools: Path) -> list[str]:
    """The controllers of Kubernetes itself."""
    pki = layout.pki
    return [
        str(tools / "kube-controller-manager"),
        f"--kubeconfig={pki / 'controller-manager.kubeconfig'}",
        f"--service-account-private-key-file={pki / 'service-accounts.key'}",
        f"--root-ca-file={pki / 'ca.crt'}",
        "--use-service-account-credentials=true",
        f"--cluster-cidr={POD_NETWORK}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
    ]


def scheduler(layout: Layout, tools: Path) -> list[str]:
    """The scheduler."""
    return [
        str(tools / "kube-scheduler"),
        f"--kubeconfig={layout.pki / 'scheduler.kubeconfig'}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
    ]


def containerd(layout: Layout, tools: Path) -> list[str]:
    """The container runtime, with folders of its own; runc is Debian's."""
    return [str(tools / "containerd"), "--config", str(layout.state / "containerd.toml")]


def kubelet(layout: Layout, tools: Path) -> list[str]:
    """The node's agent."""
    return [
        str(tools / "kubelet"),
        f"--config={layout.state / 'kubelet.json'}",
        f"--kubeconfig={layout.pki / 'kubelet.kubeconfig'}",
        f"--hostname-override={layout.name}",
        f"--node-ip={NODE_ADDRESS}",
        f"--root-dir={layout.state / 'kubelet'}",
        f"--cert-dir={layout.pki / 'kubelet-serving'}",
    ]


def kube_proxy(layout: Layout, tools: Path) -> list[str]:
    """Services, by iptables in the cluster's network."""
    return [str(tools / "kube-proxy"), f"--config={layout.state / 'kube-proxy.json'}"]


def coredns(layout: Layout, tools: Path) -> list[str]:
    """Names of Services; a process on the node, so that it needs no image."""
    return [str(tools / "coredns"), "-conf", str(layout.state / "Corefile")]


_API = ("{tools}/kubectl", "--kubeconfig={kubeconfig}", "--request-timeout=2s")

PARTS = (
    Part("etcd", etcd, ("curl", "-fsS", "-m2", f"http://127.0.0.1:{ETCD_PORT}/health")),
    Part("containerd", containerd, ("{tools}/ctr", "--address={containerd}", "--connect-timeout=2s", "version")),
    Part("kube-apiserver", apiserver, (*_API, "get", "--raw=/readyz")),
    Part(
        "kube-controller-manager",
        controller_manager,
        ("curl", "-fsSk", "-m2", "https://127.0.0.1:10257/healthz"),
    ),
    Part("kube-scheduler", scheduler, ("curl", "-fsSk", "-m2", "https://127.0.0.1:10259/healthz")),
    Part("kubelet", kubelet, ("curl", "-fsS", "-m2", "http://127.0.0.1:10248/healthz")),
    Part("kube-proxy", kube_proxy, ("curl", "-fsS", "-m2", "http://127.0.0.1:10256/healthz")),
    Part("coredns", coredns, ("curl", "-fsS", "-m2", "http://127.0.0.1:8181/ready")),
)
"""In the order in which they are started."""


def write_configuration(layout: Layout) -> None:
    """The files that the parts read."""
    for name, text in configuration(layout).items():
        path = layout.state / name
        # kube-proxy ends when its file is written, even with what was in it.
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def configuration(layout: Layout) -> dict[str, str]:
    """File name → content."""
    pki = layout.pki
    return {
        "audit-policy.json": json.dumps(
            {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"]}
            | {"rules": [{"level": "Metadata"}]}
        ),
        "containerd.toml": _containerd_toml(layout),
        "kubelet.json": json.dumps(
            {
                "apiVersion": "kubelet.config.k8s.io/v1beta1",
                "kind": "KubeletConfiguration",
                "authentication": {
                    "anonymous": {"enabled": False},
                    "webhook": {"enabled": True},
                    "x509": {"clientCAFile": str(pki / "ca.crt")},
                },
                "authorization": {"mode": "Webhook"},
                "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
                "cgroupDriver": "cgroupfs",
                # Its own branch: a kubelet ends whatever it does not know below its root.
                "cgroupRoot": f"/{layout.name}",
                "enforceNodeAllocatable": [],
                "failSwapOn": False,
                # Either version of cgroups does for a cluster of one machine.
                "failCgroupV1": False,
                "clusterDNS": [DNS_SERVICE_ADDRESS],
                "clusterDomain": "cluster.local",
                "resolvConf": "",
                "maxPods": 250,
                "podLogsDir": str(layout.state / "pod-logs"),
                "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "100Mi"},
                # Images come by hand here, and could not be pulled again.
                "imageGCHighThresholdPercent": 100,
                "serializeImagePulls": False,
            },
            indent=2,
        ),
        "kube-proxy.json": json.dumps(
            {
                "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
                "kind": "KubeProxyConfiguration",
                "clientConnection": {"kubeconfig": str(pki / "kube-proxy.kubeconfig")},
                "hostnameOverride": layout.name,
                "mode": "iptables",
                "clusterCIDR": POD_NETWORK,
                "conntrack": {"maxPerCore": 0, "min": 0},
                "iptables": {"minSyncPeriod": "0s"},
            },
            indent=2,
        ),
        "Corefile": (
            f".:53 {{\n  bind {NODE_ADDRESS}\n  errors\n  ready 127.0.0.1:8181\n"
            f"  kubernetes cluster.local in-addr.arpa {{\n    kubeconfig {pki / 'coredns.kubeconfig'} local\n"
            "    ttl 5\n  }\n  cache 5\n}\n"
        ),
    }


def _containerd_toml(layout: Layout) -> str:
    runtime, images = "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"
    return f"""version = 3
root = "{layout.state / "containerd"}"
state = "{layout.run / "containerd"}"

[grpc]
  address = "{layout.containerd_socket}"

[plugins."{images}".pinned_images]
  sandbox = "{PAUSE_IMAGE}"

[plugins."{runtime}"]
  # Without CAP_SYS_RESOURCE, a sandbox that asks for a lower score than its parent's dies at once.
  restrict_oom_score_adj = true
  disable_apparmor = true

[plugins."{runtime}".cni]
  bin_dirs = ["/usr/lib/cni"]
  conf_dir = "{layout.state / "cni"}"

[plugins."{runtime}".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
"""
