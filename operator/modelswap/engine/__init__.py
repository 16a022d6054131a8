"""Observe, plan, apply: the loop around the functional core."""
