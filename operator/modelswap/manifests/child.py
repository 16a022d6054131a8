"""What all children have in common."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from modelswap.api.v1alpha1.base import API_VERSION, Metadata

from . import labels

Manifest = dict[str, Any]


def child(
    *,
    api_version: str,
    kind: str,
    name: str,
    owner: Metadata,
    owner_kind: str,
    labels_: dict[str, str],
    annotations: dict[str, str] | None = None,
    body: Manifest,
) -> Manifest:
    """A manifest with metadata, owner reference and fingerprint."""
    manifest: Manifest = {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": owner.namespace,
            "labels": labels_,
            "annotations": dict(annotations or {}),
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": owner_kind,
                    "name": owner.name,
                    "uid": owner.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        **body,
    }
    manifest["metadata"]["annotations"][labels.APPLIED] = fingerprint(manifest)
    return manifest


def fingerprint(manifest: Manifest) -> str:
    """Short digest of a manifest; equal manifests need no write."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]


def fingerprint_of(manifest: Manifest) -> str:
    """The fingerprint that a manifest carries, here or as read from the cluster."""
    annotations = manifest["metadata"].get("annotations") or {}
    return str(annotations.get(labels.APPLIED, ""))
