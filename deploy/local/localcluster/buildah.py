"""Calls of Buildah, whose storage is in our cache."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .commands import run
from .layout import Layout


def buildah(layout: Layout, command: str, *arguments: str) -> list[str]:
    """A command line."""
    storage = layout.cache / "buildah"
    return [
        "buildah",
        f"--root={storage / 'root'}",
        f"--runroot={storage / 'run'}",
        "--storage-driver=overlay",
        command,
        *arguments,
    ]


def exists(layout: Layout, image: str) -> bool:
    """Whether it has been built."""
    done = subprocess.run(buildah(layout, "inspect", "--type=image", image), capture_output=True, check=False)
    return done.returncode == 0


def from_scratch(layout: Layout, image: str, log: Path, instructions: str, context: Path) -> None:
    """Build an image without a base."""
    dockerfile = context / "Dockerfile.scratch"
    dockerfile.write_text(f"FROM scratch\n{instructions}\n")
    run(
        buildah(layout, "bud", "--isolation=chroot", f"--file={dockerfile}", f"--tag={image}", str(context)),
        log=log,
        timeout=300,
    )
    dockerfile.unlink()
