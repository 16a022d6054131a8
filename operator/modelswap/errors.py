"""The exceptions of the operator.

ModelswapError
├── NameTakenError       a child's name belongs to an object that is not ours
└── AgentError           an agent did not answer, or refused
"""

from __future__ import annotations


class ModelswapError(Exception):
    """Base of all."""


class NameTakenError(ModelswapError):
    """A child cannot be created: another's object has its name."""


class AgentError(ModelswapError):
    """An agent did not answer in time, or refused what it was told."""
