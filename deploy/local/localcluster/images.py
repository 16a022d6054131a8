"""The project's images, built from the Dockerfiles that ship, without a registry."""

from __future__ import annotations

import configparser
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import bases, packages, tools
from .bases import Base
from .buildah import buildah, from_scratch
from .commands import run
from .errors import LocalClusterError
from .layout import PAUSE_IMAGE, PROJECT, Layout
from .locks import exclusive
from .progress import step

DOCKERFILES = PROJECT / "deploy" / "images"
BUILD_PACKAGES = {name: packages.CLUSTER[name] for name in ("buildah", "mmdebstrap", "gcc")}
BUILD_SECONDS = 1800
CERTIFICATES = Path("/etc/ssl/certs")
PIP_SETTINGS = ("cert", "default-timeout", "extra-index-url", "index-url", "proxy", "timeout", "trusted-host")
LOADERS = "kind:NAME, k3d:NAME, minikube, containerd:SOCKET, or push:PREFIX"

_PAUSE = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"


@dataclass(frozen=True)
class Context:
    """Programs that are copied into an image."""

    module: Path
    ensure: Callable[[Layout], Path]


CONTEXTS = {
    "tools": Context(tools.STORE_TOOLS, tools.ensure_store),
    "metrics-tools": Context(tools.METRICS_TOOLS, tools.ensure_metrics),
}
"""By the name that a Dockerfile calls them."""


def names() -> list[str]:
    """Every image that has a Dockerfile."""
    return sorted(path.parent.name for path in DOCKERFILES.glob("*/Dockerfile"))


@dataclass(frozen=True)
class Image:
    """An image of the project; its key tells what is in it."""

    name: str
    key: str

    @classmethod
    def of(cls, name: str) -> Image:
        """The one that the tree makes now.

        Raises:
            LocalClusterError: there is no such image.

        """
        if name not in names():
            raise LocalClusterError(f"there is no image {name!r}; there are: {', '.join(names())}")
        return cls(name, content_key(name))

    @property
    def reference(self) -> str:
        """The full name."""
        return f"localhost/modelswap-{self.name}:{self.key}"

    @property
    def dockerfile(self) -> Path:
        """What it is built from."""
        return DOCKERFILES / self.name / "Dockerfile"


def content_key(name: str) -> str:
    """Changes when the Dockerfile, or a file that it copies, does."""
    dockerfile = DOCKERFILES / name / "Dockerfile"
    text = dockerfile.read_text()
    digest = hashlib.sha256(text.encode())
    for path in sorted(_copied(text)):
        digest.update(str(path.relative_to(PROJECT)).encode())
        digest.update(path.read_bytes())
    for context in _contexts(text):
        digest.update(tools.pins_key(CONTEXTS[context].module).encode())
    return digest.hexdigest()[:12]


def _contexts(dockerfile: str) -> list[str]:
    """The folders of built programs that a Dockerfile copies from."""
    return [name for name in CONTEXTS if f"--from={name} " in dockerfile]


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

    Raises:
        LocalClusterError: one cannot be built or brought there.

    """
    _check_loader(load)
    packages.ensure(layout, BUILD_PACKAGES)
    references = {}
    for image in map(Image.of, wanted):
        with exclusive(layout.cache / "images.lock", BUILD_SECONDS):
            archive = _archive(layout, image)
            references[image.name] = _load(layout, archive, image.reference, load)
    return references


def ensure_haproxy(layout: Layout) -> Path:
    """The HAProxy of the agent's image, as a program of this machine.

    Raises:
        LocalClusterError: its base cannot be made.

    """
    packages.ensure(layout, BUILD_PACKAGES)
    base = Base.of((DOCKERFILES / "agent" / "Dockerfile").read_text())
    assert base is not None, "the agent's image stands on Debian"
    with exclusive(layout.cache / "images.lock", BUILD_SECONDS):
        return bases.ensure_haproxy(layout, base)


def _archive(layout: Layout, image: Image) -> Path:
    """The image as an OCI archive in the cache."""
    folder = layout.cache / "images"
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{image.name}-{image.key}.tar"
    if not archive.exists():
        asked = Base.of(image.dockerfile.read_text())
        base = bases.ensure(layout, asked) if asked else ""
        contexts = {name: CONTEXTS[name].ensure(layout) for name in _contexts(image.dockerfile.read_text())}
        with step(f"image {image.name}"):
            _build(layout, image, base, contexts, archive)
        for old in folder.glob(f"{image.name}-????????????.tar"):
            if old != archive:
                old.unlink()
    return archive


def _build(layout: Layout, image: Image, base: str, contexts: Mapping[str, Path], archive: Path) -> None:
    log = layout.cache / "logs" / f"image-{image.name}.log"
    run(
        buildah(layout, "bud", "--layers", "--isolation=chroot", "--network=host")
        + ([f"--build-arg=BASE_IMAGE={base}"] if base else [])
        + machine_settings(layout.cache / "pip.conf", os.environ)
        + [f"--build-context={name}={folder}" for name, folder in contexts.items()]
        + [f"--file={image.dockerfile}", f"--tag={image.reference}", str(PROJECT)],
        log=log,
        timeout=BUILD_SECONDS,
    )
    if Image.of(image.name) != image:
        raise LocalClusterError(f"files of image {image.name} changed while it was built: run this again")
    part = archive.with_suffix(".part")
    run(buildah(layout, "push", image.reference, f"oci-archive:{part}:{image.reference}"), log=log, timeout=600)
    part.rename(archive)


def machine_settings(pip: Path, environment: Mapping[str, str]) -> list[str]:
    """Options with this machine's certificates and pip settings, there while an image is built and not in it."""
    settings = pip_settings(environment)
    shared = [CERTIFICATES]
    if "cert" in settings and CERTIFICATES not in Path(settings["cert"]).parents:
        shared.append(Path(settings["cert"]))
    if settings:
        pip.parent.mkdir(parents=True, exist_ok=True)
        pip.touch(mode=0o600)  # an index's address may hold a password
        pip.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()))
    options = [f"--volume={path}:{path}:ro" for path in shared if path.exists()]
    return [*options, f"--volume={pip}:/etc/pip.conf:ro"] if settings else options


def pip_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """How pip reaches its index here: from its files, the user's over the machine's, and PIP_… over both."""
    home = Path(environment.get("HOME") or "/root")
    files = [Path("/etc/pip.conf"), home / ".pip" / "pip.conf", home / ".config" / "pip" / "pip.conf"]
    parser = configparser.RawConfigParser()
    parser.read([*files, Path(environment.get("PIP_CONFIG_FILE") or os.devnull)])
    found = dict(parser["global"]) if parser.has_section("global") else {}
    found |= {key[4:].lower().replace("_", "-"): value for key, value in environment.items() if key.startswith("PIP_")}
    return {key: value for key, value in found.items() if key in PIP_SETTINGS}


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
        from_scratch(layout, PAUSE_IMAGE, log, 'COPY pause /pause\nENTRYPOINT ["/pause"]', folder)
        run(buildah(layout, "push", PAUSE_IMAGE, f"oci-archive:{archive}:{PAUSE_IMAGE}"), log=log)
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
        pushed = f"{argument.rstrip('/')}/{image.removeprefix('localhost/')}"
        run(buildah(layout, "pull", f"oci-archive:{archive}"), timeout=600)
        run(buildah(layout, "push", image, f"docker://{pushed}"), timeout=1200)
        return pushed


def _check_loader(load: str | None) -> None:
    kind, _, argument = (load or "minikube").partition(":")
    known, named = {"kind", "k3d", "minikube", "containerd", "push"}, {"k3d", "containerd", "push"}
    if kind not in known or (kind in named and not argument):
        raise LocalClusterError(f"MODELSWAP_IMAGE_LOAD is {load!r}: it must be {LOADERS}")


def _ctr(layout: Layout, *arguments: str) -> list[str]:
    ctr = str(tools.cluster_folder(layout) / "ctr")
    return [ctr, "--namespace=k8s.io", f"--address={layout.containerd_socket}", *arguments]


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
