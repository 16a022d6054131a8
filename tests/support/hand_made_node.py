"""What kubelet, the ReplicaSet and endpoint controllers and kube-proxy do, by hand, for a few pods.

The pods are real agents with a real HAProxy, each on an address of its own.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from localcluster.apiserver import TOKEN, ApiServer
from modelswap.api.agent import ROUTE_PORT

from tests.dataplane.conftest import ENVIRONMENT, PROGRAM, children_of, start_proxy
from tests.support.service import LoopbackService

Object = dict[str, Any]


class Rest:
    """Plain calls to the API server."""

    def __init__(self, server: ApiServer) -> None:
        self._url = server.url
        self._context = ssl.create_default_context()
        self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE

    def call(self, method: str, path: str, body: Object | None = None, kind: str = "application/json") -> Object:
        request = urllib.request.Request(
            f"{self._url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": kind},
        )
        with urllib.request.urlopen(request, context=self._context, timeout=10) as response:
            found: Object = json.load(response)
        return found

    def apply(self, path: str, body: Object) -> Object:
        return self.call("PATCH", f"{path}?fieldManager=node&force=true", body, "application/apply-patch+yaml")


class Node:
    """Runs pods and keeps the endpoints of one route."""

    def __init__(self, rest: Rest, namespace: str, folder: Path, service: LoopbackService) -> None:
        self._rest = rest
        self._core = f"/api/v1/namespaces/{namespace}"
        self._deployments = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        self._slices = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        self._folder = folder
        self._service = service
        self._addresses: dict[str, str] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="endpoints")

    def run_pod(self, version: str, address: str) -> None:
        """The one pod of a version whose Deployment is there: its agent, and what Kubernetes would tell of it."""
        folder = self._folder / version
        (folder / "run").mkdir(parents=True)
        (folder / "tls").mkdir()
        config = self._rest.call("GET", f"{self._core}/configmaps/{version}-agent")
        (folder / "agent.json").write_text(config["data"]["agent.json"])
        secret = self._rest.call("GET", f"{self._core}/secrets/{version}-agent-tls")
        for name, content in secret["data"].items():
            (folder / "tls" / name).write_bytes(base64.b64decode(content))
        settings = {"config": folder / "agent.json", "tls": folder / "tls", "run": folder / "run"}
        given = {name: str(path) for name, path in settings.items()} | {
            "fetch_progress": str(folder / "fetch.json"),
            "address": address,
            "model_address": address,
        }
        command = [sys.executable, "-c", PROGRAM.format(command="run"), json.dumps(given)]
        with (folder / "log").open("wb") as log:
            self._processes.append(start_proxy(folder / "run", log))
            self._processes.append(subprocess.Popen(command, env=ENVIRONMENT, stdout=log, stderr=log))
        self._tell(version, address)
        self._addresses[version] = address

    def _tell(self, version: str, address: str) -> None:
        template = self._rest.call("GET", f"{self._deployments}/{version}")["spec"]["template"]
        name = f"{version}-pod".replace(".", "-")
        container = {"name": "model-server", "image": "server:1"}
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": template["metadata"]["labels"]},
            "spec": {"containers": [container], "nodeName": "by-hand"},
        }
        self._rest.apply(f"{self._core}/pods/{name}", body)
        running = {"ready": True, "restartCount": 0, "image": "", "imageID": ""}
        running |= {"state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
        body["status"] = {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "initContainerStatuses": [{"name": "proxy", **running}, {"name": "agent", **running}],
            "containerStatuses": [{"name": "model-server", **running}],
        }
        self._rest.apply(f"{self._core}/pods/{name}/status", body)

    def serve(self) -> None:
        """From now on the endpoints follow the route's Service."""
        self._thread.start()

    def _follow(self) -> None:
        selected = ""
        while not self._stop.is_set():
            found = self._rest.call("GET", f"{self._core}/services/iris")
            now = found["spec"]["selector"]["modelswap.dev/model-version"]
            if now != selected:
                selected = now
                self._write_slice(found, self._addresses[selected])
                self._service.endpoint = (self._addresses[selected], ROUTE_PORT)
            time.sleep(0.05)

    def _write_slice(self, service: Object, address: str) -> None:
        body = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "iris-1",
                "labels": service["metadata"]["labels"] | {"kubernetes.io/service-name": "iris"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
            "ports": [{"name": "http", "port": ROUTE_PORT, "protocol": "TCP"}],
        }
        self._rest.apply(f"{self._slices}/iris-1", body)

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        for process in self._processes:
            for pid in (*children_of(process.pid), process.pid):
                os.kill(pid, signal.SIGKILL)
            process.wait(timeout=10)
