"""What can go wrong."""

from __future__ import annotations


class LocalClusterError(Exception):
    """A part of the cluster failed; the message says which one and where its log is."""
