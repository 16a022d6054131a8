"""The project's images, built from the Dockerfiles that ship, without a registry."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from . import packages, tools
from .commands import run
from .errors import LocalClusterError
from .layout import PAUSE_IMAGE, PROJECT, Layout
from .progress import step

DOCKERFILES = PROJECT / "deploy" / "images"
RELEASE = "bookworm"
BASE_PACKAGES = ("ca-certificates", "haproxy", "python3", "python3-venv", "tini")
"""In the base image already, so that the Dockerfiles have nothing to install; on another base they do."""

BUILD_PACKAGES = {name: packages.CLUSTER[name] for name in ("buildah", "mmdebstrap", "gcc")}
LOADERS = "kind:NAME, k3d:NAME, minikube, containerd:SOCKET, or push:PREFIX"

_PAUSE = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"


def names() -> list[str]:
    """Every image that has a Dockerfile."""
    return sorted(path.parent.name for path in DOCKERFILES.glob("*/Dockerfile"))


def reference(name: str) -> str:
    """An image's full name; its tag tells what is in it."""
    return f"localhost/modelswap-{name}:{content_key(name)}"


def content_key(name: str) -> str:
    """Changes when the Dockerfile, or a file that it copies, does."""
    dockerfile = DOCKERFILES / name / "Dockerfile"
    text = dockerfile.read_text()
    digest = hashlib.sha256(repr((RELEASE, BASE_PACKAGES, text)).encode())
    for path in sorted(_copied(text)):
        digest.update(str(path.relative_to(PROJECT)).encode())
        digest.update(path.read_bytes())
    if "--from=tools" in text:
        digest.update(tools.pins_key(tools.STORE_TOOLS).encode())
    return digest.hexdigest()[:12]


def _copied(dockerfile: str) -> Iterable[Path]:
    for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, flags=re.MULTILINE):
        for word in [w for w in line.split() if not w.startswith("--")][:-1]:
            source = PROJECT / word
            if not source.exists():
                raise LocalClusterError(f"a Dockerfile copies {word}, which is not there")
            files = source.rglob("*") if source.is_dir() else [source]
            yield from (f for f in files if f.is_file() and "__pycache__" not in f.parts)


def ensure(layout: Layout, wanted: list[str], *, load: str | None) -> dict[str, str]:
    """Build what has changed and bring it to the cluster; name → full name.

    Args:
        layout: of the local cluster.
        wanted: names of images.
        load: how another cluster gets the images (see LOADERS); None for the local one.

    """
    packages.ensure(layout, BUILD_PACKAGES)
    references = {}
    for name in wanted:
        archive = _archive(layout, name)
        references[name] = _load(layout, archive, reference(name), load)
    return references


def _archive(layout: Layout, name: str) -> Path:
    """The image as an OCI archive in the cache."""
    folder = layout.cache / "images"
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{name}-{content_key(name)}.tar"
    if not archive.exists():
        base = _ensure_base(layout)
        with step(f"image {name}"):
            _build(layout, name, base, archive)
        for old in folder.glob(f"{name}-????????????.tar"):
            if old != archive:
                old.unlink()
    return archive


def _build(layout: Layout, name: str, base: str, archive: Path) -> None:
    log = layout.cache / "logs" / f"image-{name}.log"
    dockerfile = DOCKERFILES / name / "Dockerfile"
    contexts = []
    if "--from=tools" in dockerfile.read_text():
        contexts = [f"--build-context=tools={tools.ensure_store(layout)}"]
    image = reference(name)
    run(
        _buildah(layout, "bud", "--layers", "--isolation=chroot", "--network=host", f"--build-arg=BASE_IMAGE={base}")
        + [*_machine_settings(layout), *contexts, f"--file={dockerfile}", f"--tag={image}", str(PROJECT)],
        log=log,
        timeout=1800,
    )
    part = archive.with_suffix(".part")
    run(_buildah(layout, "push", image, f"oci-archive:{part}:{image}"), log=log, timeout=600)
    part.rename(archive)


def _buildah(layout: Layout, command: str, *arguments: str) -> list[str]:
    storage = layout.cache / "buildah"
    return [
        "buildah",
        f"--root={storage / 'root'}",
        f"--runroot={storage / 'run'}",
        "--storage-driver=overlay",
        command,
        *arguments,
    ]


def _machine_settings(layout: Layout) -> list[str]:
    """This machine's certificates and pip settings, there while an image is built and not in it."""
    volumes = ["--volume=/etc/ssl/certs:/etc/ssl/certs:ro"]
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, timeout=60, check=False
    ).stdout
    wanted = dict(
        re.findall(
            r"^(?::env:|\w+)\.(cert|index-url|extra-index-url|trusted-host|proxy|timeout|default-timeout)='(.*)'$",
            listing,
            flags=re.MULTILINE,
        )
    )
    if wanted:
        path = layout.cache / "pip.conf"
        path.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in wanted.items()))
        volumes.append(f"--volume={path}:/etc/pip.conf:ro")
    return volumes


def _ensure_base(layout: Layout) -> str:
    """The base image, made of this machine's Debian packages."""
    key = hashlib.sha256(repr((RELEASE, BASE_PACKAGES)).encode()).hexdigest()[:12]
    image = f"localhost/modelswap-base:{key}"
    if _exists(layout, image):
        return image
    log = layout.cache / "logs" / "image-base.log"
    tar = layout.cache / "images" / f"base-{key}.tar"
    with step("base image"):
        run(
            ["mmdebstrap", "--variant=minbase", f"--include={','.join(BASE_PACKAGES)}", RELEASE, tar],
            log=log,
            timeout=900,
        )
        _from_scratch(layout, image, log, f"ADD {tar.name} /", tar.parent)
        tar.unlink()
    return image


def _exists(layout: Layout, image: str) -> bool:
    done = subprocess.run(_buildah(layout, "inspect", "--type=image", image), capture_output=True, check=False)
    return done.returncode == 0


def _from_scratch(layout: Layout, image: str, log: Path, instructions: str, context: Path) -> None:
    dockerfile = context / "Dockerfile.scratch"
    dockerfile.write_text(f"FROM scratch\n{instructions}\n")
    run(
        _buildah(layout, "bud", "--isolation=chroot", f"--file={dockerfile}", f"--tag={image}", str(context)),
        log=log,
        timeout=300,
    )
    dockerfile.unlink()


def ensure_pause(layout: Layout) -> None:
    """The image of pod sandboxes: a program that waits."""
    if PAUSE_IMAGE in _imported(layout):
        return
    folder = layout.cache / "images" / "pause"
    folder.mkdir(parents=True, exist_ok=True)
    log = layout.cache / "logs" / "image-pause.log"
    archive = folder / "pause.tar"
    if not archive.exists():
        (folder / "pause.c").write_text(_PAUSE)
        run(["gcc", "-O2", "-static", "-o", folder / "pause", folder / "pause.c"], log=log)
        _from_scratch(layout, PAUSE_IMAGE, log, 'COPY pause /pause\nENTRYPOINT ["/pause"]', folder)
        run(_buildah(layout, "push", PAUSE_IMAGE, f"oci-archive:{archive}:{PAUSE_IMAGE}"), log=log)
    _import(layout, archive)


def _load(layout: Layout, archive: Path, image: str, load: str | None) -> str:
    if load is None:
        if image not in _imported(layout):
            with step(f"importing {image}"):
                _import(layout, archive)
        return image
    kind, _, argument = load.partition(":")
    commands = {
        "kind": ["kind", "load", "image-archive", archive, "--name", argument or "kind"],
        "k3d": ["k3d", "image", "import", archive, "--cluster", argument],
        "minikube": ["minikube", "image", "load", archive],
        "containerd": ["ctr", "--namespace=k8s.io", f"--address={argument}", "images", "import", archive],
    }
    with step(f"loading {image}"):
        if kind in commands:
            run(commands[kind], timeout=600)
            return image
        if kind == "push" and argument:
            pushed = f"{argument.rstrip('/')}/{image.removeprefix('localhost/')}"
            run(_buildah(layout, "push", image, f"docker://{pushed}"), timeout=1200)
            return pushed
    raise LocalClusterError(f"MODELSWAP_IMAGE_LOAD is {load!r}: it must be {LOADERS}")


def _ctr(layout: Layout, *arguments: str) -> list[str]:
    return ["ctr", "--namespace=k8s.io", f"--address={layout.containerd_socket}", *arguments]


def _imported(layout: Layout) -> set[str]:
    if not layout.containerd_socket.exists():
        raise LocalClusterError("the local cluster is not up: `make cluster-up` starts it")
    return set(run(_ctr(layout, "images", "list", "--quiet")).split())


def _import(layout: Layout, archive: Path) -> None:
    # An import has no label of the kubelet's: its garbage collector is switched off instead.
    run(_ctr(layout, "images", "import", str(archive)), timeout=300)


def load_from_environment() -> str | None:
    """How another cluster gets images: MODELSWAP_IMAGE_LOAD.

    Raises:
        LocalClusterError: KUBECONFIG names another cluster, and nothing says how it gets images.

    """
    load = os.environ.get("MODELSWAP_IMAGE_LOAD") or None
    if load is None and os.environ.get("KUBECONFIG"):
        raise LocalClusterError(
            f"KUBECONFIG names a cluster: say by MODELSWAP_IMAGE_LOAD how it gets images ({LOADERS}), "
            "or unset KUBECONFIG for a cluster of our own"
        )
    return load
