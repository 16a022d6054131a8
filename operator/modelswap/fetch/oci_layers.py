"""What an artifact or image of a registry unpacks to."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from .errors import FetchError
from .limits import Allowance
from .oci import INDEX_FILE, MANIFEST_FILE
from .oci_manifest import listed, parse_manifest
from .unpack import Tree


class Layers:
    """Layers with a title are files; the others are unpacked over each other."""

    def __init__(self, shown: str) -> None:
        self._shown = shown

    def digests(self, fetched: Path, files: Mapping[str, str]) -> tuple[str, ...]:
        """Of the manifest, and of the index where one led to it: people see that one.

        Raises:
            FetchError: a blob is not what the manifest says.

        """
        manifest = files.get(MANIFEST_FILE, "")
        for layer in parse_manifest((fetched / MANIFEST_FILE).read_bytes(), self._shown).layers:
            if files.get(f"blobs/{layer.sha256}") != layer.sha256:
                raise self._mismatch(f"blob sha256:{layer.sha256}")
        if INDEX_FILE not in files:
            return (manifest,)
        if manifest not in listed((fetched / INDEX_FILE).read_bytes(), self._shown):
            raise self._mismatch("manifest")
        return (manifest, files[INDEX_FILE])

    def install(self, fetched: Path, tree: Path, allowance: Allowance) -> None:
        """Unpack and move, in the order of the manifest."""
        layers = parse_manifest((fetched / MANIFEST_FILE).read_bytes(), self._shown).layers
        unpacked = Tree(tree, self._shown, allowance.unpacked(sum(layer.size for layer in layers)))
        uses = Counter(layer.sha256 for layer in layers)
        for layer in layers:
            blob = fetched / "blobs" / layer.sha256
            uses[layer.sha256] -= 1
            if not layer.title:
                unpacked.unpack_layer(blob)
            elif uses[layer.sha256]:
                shutil.copyfile(blob, unpacked.place(layer.title, layer.size))
            else:
                blob.rename(unpacked.place(layer.title, layer.size))
            if not uses[layer.sha256]:
                blob.unlink(missing_ok=True)
        unpacked.check_links()
        shutil.rmtree(fetched)

    def _mismatch(self, what: str) -> FetchError:
        return FetchError("DigestMismatch", f"a {what} of {self._shown} is not what it should be", permanent=False)
