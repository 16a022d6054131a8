"""Base of every type of the API group."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "modelswap.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class Resource(BaseModel):
    """camelCase on the wire; frozen; unknown fields ignored, as the API server has pruned or kept them on purpose."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, use_attribute_docstrings=True
    )


class Rule(dict[str, Any]):
    """A CEL rule (`x-kubernetes-validations`) with the sentence that a user reads when it fails."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(rule=rule, message=message)


def rules(*items: Rule) -> dict[str, Any]:
    """JSON schema extension that carries CEL rules."""
    return {"x-kubernetes-validations": [dict(item) for item in items]}


DnsLabel = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
DnsSubdomain = Annotated[
    str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", max_length=253)
]
ModelName = Annotated[
    str,
    Field(
        max_length=40,
        min_length=1,
        json_schema_extra=rules(
            Rule(
                "self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                "a model's name has lower-case letters, digits and '-', begins with a letter and does not end in '-'",
            )
        ),
    ),
]


class Metadata(Resource):
    """The part of Kubernetes' ObjectMeta that the operator reads."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: tuple[str, ...] = ()


class Condition(Resource):
    """One condition, in the shape of Kubernetes' metav1.Condition."""

    type: Annotated[str, Field(max_length=63)]
    status: Annotated[str, Field(pattern="^(True|False|Unknown)$")]
    reason: Annotated[str, Field(min_length=1, max_length=128, pattern="^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")]
    message: Annotated[str, Field(max_length=32768)] = ""
    observed_generation: Annotated[int, Field(ge=0)] = 0
    last_transition_time: datetime


Conditions = Annotated[
    list[Condition],
    Field(
        default_factory=list,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]
