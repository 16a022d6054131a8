"""Base images, made of Debian's packages without a registry; and the HAProxy of one of them, for tests without pods."""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from .buildah import buildah, exists, from_scratch
from .commands import run
from .errors import LocalClusterError
from .layout import Layout
from .progress import step

HAPROXY = "usr/sbin/haproxy"
LOADER = "usr/lib64/ld-linux-x86-64.so.2"
LIBRARIES = "usr/lib/x86_64-linux-gnu"


@dataclass(frozen=True)
class Base:
    """What a Dockerfile stands on: a release of Debian, with the packages in it that the Dockerfile would install."""

    release: str
    packages: tuple[str, ...]

    @classmethod
    def of(cls, dockerfile: str) -> Base | None:
        """The one that a Dockerfile's text asks for, if any.

        Raises:
            LocalClusterError: it asks for one that is not Debian's.

        """
        asked = re.search(r"^ARG BASE_IMAGE=(\S+)$", dockerfile, flags=re.MULTILINE)
        if asked is None:
            return None
        debian = re.fullmatch(r"debian:([a-z]+)-slim", asked[1])
        if debian is None:
            raise LocalClusterError(f"a Dockerfile's base is {asked[1]}: it must be debian:RELEASE-slim")
        installed = re.search(r"apt-get install -y --no-install-recommends ([a-z0-9 -]+)", dockerfile)
        return cls(debian[1], tuple(sorted(installed[1].split())) if installed else ())

    @property
    def key(self) -> str:
        """Changes with the base."""
        return hashlib.sha256(repr((self.release, self.packages)).encode()).hexdigest()[:12]


def ensure(layout: Layout, base: Base) -> str:
    """The image's name; it is made when it is not there."""
    image = f"localhost/modelswap-base:{base.key}"
    if exists(layout, image):
        return image
    log = layout.cache / "logs" / "image-base.log"
    tar = layout.cache / "images" / f"base-{base.key}.tar"
    tar.parent.mkdir(parents=True, exist_ok=True)
    with step(f"base image of Debian's {base.release}"):
        run(
            ["mmdebstrap", "--variant=minbase", f"--include={','.join(base.packages)}", base.release, tar],
            log=log,
            timeout=900,
        )
        from_scratch(layout, image, log, f"ADD {tar.name} /", tar.parent)
        tar.unlink()
    return image


def ensure_haproxy(layout: Layout, base: Base) -> Path:
    """The HAProxy of a base, as a program that runs on this machine with the libraries that it has there."""
    folder = layout.cache / "tools" / f"haproxy-{base.key}"
    program = folder / "haproxy"
    if program.exists():
        return program
    image = ensure(layout, base)
    with step("HAProxy of the agent's image"):
        container = run(buildah(layout, "from", "--pull=never", image)).strip()
        try:
            _copy_with_libraries(Path(run(buildah(layout, "mount", container)).strip()), folder)
        finally:
            run(buildah(layout, "rm", container))
        part = program.with_suffix(".part")
        part.write_text(
            '#!/bin/sh\nhere=$(dirname "$0")/lib\nexec "$here/ld.so" --library-path "$here" "$here/haproxy" "$@"\n'
        )
        part.chmod(0o755)
        part.rename(program)
    return program


def _copy_with_libraries(root: Path, folder: Path) -> None:
    target = folder / "lib"
    target.mkdir(parents=True, exist_ok=True)
    loader = root / LOADER
    listed = run([str(loader), "--library-path", str(root / LIBRARIES), "--list", str(root / HAPROXY)])
    for library in re.findall(r"=> (/\S+)", listed):
        if Path(library).is_relative_to(root / LIBRARIES):
            shutil.copy(library, target)
    shutil.copy(loader, target / "ld.so")
    shutil.copy(root / HAPROXY, target)
