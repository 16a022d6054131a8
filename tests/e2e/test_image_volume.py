"""A model that comes as an image, which the kubelet mounts into the pod."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from localcluster.layout import Layout

from .tenant import PROBE, Tenant, model_version

LAYOUT = Layout.from_environment()
IMAGE = "localhost/modelswap-test-model:1.0.0"
CTR = ("ctr", f"--address={LAYOUT.containerd_socket}", "--namespace=k8s.io", "images")


def oci_archive(files: dict[str, bytes]) -> bytes:
    """An image of one layer, as the OCI image layout has it."""
    layer = tar(files)
    blobs: dict[str, bytes] = {}

    def put(content: bytes, media: str) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": f"application/vnd.oci.image.{media}", "digest": f"sha256:{digest}", "size": len(content)}

    described = put(layer, "layer.v1.tar")
    rootfs = {"type": "layers", "diff_ids": [described["digest"]]}
    config = put(json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).encode(), "config.v1+json")
    body = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"}
    manifest = put(json.dumps({**body, "config": config, "layers": [described]}).encode(), "manifest.v1+json")
    named = manifest | {"annotations": {"io.containerd.image.name": IMAGE}}
    index = json.dumps({"schemaVersion": 2, "manifests": [named]}).encode()
    return tar({"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": index, **blobs})


def tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def image(tenant: Tenant, tmp_path: Path) -> Iterator[bytes]:
    """The demo's model in an image that the node has; its bytes."""
    if os.environ.get("KUBECONFIG") != str(LAYOUT.kubeconfig):
        pytest.skip("an image can be brought to the local cluster's node alone")
    script = "import base64; print(base64.b64encode(open('/model/model.joblib', 'rb').read()).decode())"
    model = base64.b64decode(tenant.kubectl("exec", "deployment/flaky", "--", "python3", "-c", script))
    archive = tmp_path / "image.tar"
    archive.write_bytes(oci_archive({"model.joblib": model}))
    subprocess.run([*CTR, "import", str(archive)], check=True, timeout=60)
    yield model
    tenant.kubectl("delete", "modelversions", "--all", "--timeout=120s")
    subprocess.run([*CTR, "rm", IMAGE], check=True, timeout=60)


@pytest.mark.requirement("MM-8")
def test_an_image_is_mounted_verified_and_served(tenant: Tenant, image: bytes) -> None:
    tenant.apply(model_version("mounted", "1.0.0", artifact={"uri": f"image://{IMAGE}"}))
    tenant.wait_for_reason("mounted-1.0.0", "Healthy")
    status = tenant.status("mounted-1.0.0")
    assert status["artifactBytes"] == len(image)
    [pod] = tenant.pods("mounted-1.0.0")
    [volume] = [found for found in pod["spec"]["volumes"] if "image" in found]
    assert volume["image"]["reference"] == IMAGE
    assert tenant.ask("mounted-1-0-0", "/v2/models/mounted/infer", PROBE)["model_version"] == "1.0.0"
    wrong = {"uri": f"image://{IMAGE}", "sha256": "0" * 64}
    tenant.apply(model_version("mounted", "1.1.0", artifact=wrong))
    assert "sha256" in tenant.wait_for_reason("mounted-1.1.0", "LoadFailed")
