"""Requests that modelswap sends to a model by itself: warm-up and sample inference."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from .base import Resource

Path = Annotated[str, Field(pattern="^/", max_length=1024)]


class InferenceRequest(Resource):
    """One HTTP request to the model server."""

    method: Annotated[str, Field(pattern="^(GET|POST|PUT)$")] = "POST"
    path: Path
    """Path on the model server, such as `/v2/models/iris/infer`."""
    headers: dict[str, Annotated[str, Field(max_length=1024)]] = Field(default_factory=dict, max_length=16)
    body: dict[str, Any] | None = Field(default=None, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})
    """JSON body."""


class WarmUpRequest(InferenceRequest):
    """A request of the warm-up."""

    repeat: Annotated[int, Field(ge=1, le=10000)] = 1
    """How often it is sent."""


class WarmUpSpec(Resource):
    """Requests that every serving pod answers before it may be routed."""

    requests: list[WarmUpRequest] = Field(min_length=1, max_length=16)
    timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 60
    """For the whole warm-up."""


class ExpectedValue(Resource):
    """Numbers that the answer must hold."""

    path: Annotated[str, Field(pattern=r"^(/[^/]*)+$", max_length=256)]
    """JSON pointer (RFC 6901) to a number or an array of numbers, such as `/outputs/0/data`."""
    values: list[str | int] = Field(
        min_length=1,
        max_length=256,
        json_schema_extra={"items": {"x-kubernetes-int-or-string": True}},
    )
    """Expected numbers; decimals as strings, such as `"0.25"`."""
    tolerance: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?$", max_length=32)] = "0"
    """Largest absolute difference."""


class Expectation(Resource):
    """What makes a sample's answer good."""

    status: Annotated[int, Field(ge=100, le=599)] = 200
    json_schema: dict[str, Any] | None = Field(
        default=None, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}
    )
    """JSON Schema (draft 2020-12) of the answer's body."""
    values: list[ExpectedValue] = Field(default_factory=list, max_length=16)


class SampleSpec(Resource):
    """The sample inference: the declared request whose answer is checked."""

    request: InferenceRequest
    expect: Expectation = Field(default_factory=Expectation)
    period_seconds: Annotated[int, Field(ge=1, le=86400)] = 300
    timeout_seconds: Annotated[int, Field(ge=1, le=300)] = 5
