"""Thin kopf handlers: an event becomes a key in a queue."""
