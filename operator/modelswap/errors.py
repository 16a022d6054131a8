"""The exceptions of the operator.

ModelswapError
├── ChildError           a child cannot be made as it should be
│   ├── NameTakenError       its name belongs to an object that is not ours
│   └── ChildRefusedError    the API server does not take it
├── AgentError           an agent did not answer, or refused
└── LeadLostError        another replica may lead by now
"""

from __future__ import annotations


class ModelswapError(Exception):
    """Base of all."""


class ChildError(ModelswapError):
    """A child cannot be made as it should be; `reason` is CamelCase, for a condition."""

    reason: str


class NameTakenError(ChildError):
    """Another's object has its name."""

    reason = "NameTaken"


class ChildRefusedError(ChildError):
    """The API server does not take it."""

    reason = "ChildRefused"


class AgentError(ModelswapError):
    """An agent did not answer in time, or refused what it was told."""


class LeadLostError(ModelswapError):
    """This replica may not write any more."""
