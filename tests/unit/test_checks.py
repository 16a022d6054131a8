from __future__ import annotations

from typing import Any

import pytest
from modelswap.agent.checks import problem_of
from modelswap.api.v1alpha1.inference import Expectation

BODY = b'{"outputs": [{"data": [0.25, 0.75]}], "a/b": 1}'


def problem(body: bytes = BODY, status: int = 200, **expect: Any) -> str:
    return problem_of(Expectation.model_validate(expect), status, body)


@pytest.mark.requirement("HS-4")
def test_a_good_answer_has_no_problem() -> None:
    assert problem() == ""
    assert problem(values=[{"path": "/outputs/0/data", "values": ["0.25", "0.75"]}]) == ""
    assert problem(values=[{"path": "/outputs/0/data", "values": ["0.2", "0.8"], "tolerance": "0.05"}]) == ""
    assert problem(values=[{"path": "/a~1b", "values": [1]}]) == ""
    assert problem(jsonSchema={"type": "object", "required": ["outputs"]}) == ""


@pytest.mark.requirement("HS-4")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"status": 500}, "answered 500 instead of 200"),
        ({"body": b"oops", "jsonSchema": {}}, "not JSON"),
        ({"jsonSchema": {"required": ["model_name"]}}, "model_name"),
        ({"jsonSchema": {"type": 7}}, "is not a JSON Schema"),
        ({"values": [{"path": "/outputs/0/data", "values": ["0.25", "0.5"]}]}, "not within 0 of 0.5"),
        ({"values": [{"path": "/outputs/0/data", "values": [1]}]}, "has 2 numbers"),
        ({"values": [{"path": "/missing", "values": [1]}]}, "no numbers at /missing"),
    ],
)
def test_a_bad_answer_is_told_in_words(changes: dict[str, Any], words: str) -> None:
    assert words in problem(**changes)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "#/nowhere"},
        {"$ref": "#"},
        {"properties": {"x": {"pattern": "("}}},
        {"type": "nonsense"},
    ],
)
def test_a_schema_that_cannot_be_used_is_a_problem_and_nothing_is_fetched_for_it(schema: dict[str, Any]) -> None:
    expect = Expectation.model_validate({"jsonSchema": schema})
    assert problem_of(expect, 200, b'{"x": "y"}').startswith("cannot be checked: spec.sample.expect.jsonSchema")
