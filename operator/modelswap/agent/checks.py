"""Whether an answer of the model is good: pure."""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import jsonschema
from jsonschema.validators import Draft202012Validator
from referencing import Registry
from referencing.exceptions import Unresolvable

from modelswap.api.v1alpha1.inference import Expectation, ExpectedValue

SHOWN = 200
"""Characters of an answer that a message shows."""


def problem_of(expect: Expectation, status: int, body: bytes) -> str:
    """What is wrong with an answer, in words; empty when it is good."""
    text = body.decode(errors="replace")
    if status != expect.status:
        return f"answered {status} instead of {expect.status}: {text[:SHOWN]}"
    if expect.json_schema is None and not expect.values:
        return ""
    try:
        document = json.loads(text)
    except ValueError:
        return f"answered with something that is not JSON: {text[:SHOWN]}"
    if expect.json_schema is not None and (problem := _schema_problem(expect.json_schema, document)):
        return problem
    return next(filter(None, (_value_problem(value, document) for value in expect.values)), "")


def _schema_problem(schema: dict[str, Any], document: object) -> str:
    try:
        Draft202012Validator.check_schema(schema)
        # Without a registry of its own the library fetches what a $ref names, from anywhere.
        first = next(Draft202012Validator(schema, registry=Registry()).iter_errors(document), None)
    except jsonschema.SchemaError as error:
        return f"cannot be checked: spec.sample.expect.jsonSchema is not a JSON Schema: {error.message}"
    except (Unresolvable, RecursionError, re.error) as error:
        return f"cannot be checked: spec.sample.expect.jsonSchema is not one by itself: {str(error)[:SHOWN]}"
    if first is None:
        return ""
    return f"does not fit spec.sample.expect.jsonSchema at {first.json_path}: {first.message[:SHOWN]}"


def _value_problem(expected: ExpectedValue, document: object) -> str:
    try:
        found = _flat(_at(expected.path, document))
        wanted = [Decimal(str(value)) for value in expected.values]
        tolerance = Decimal(expected.tolerance)
    except (KeyError, IndexError, ValueError, TypeError, InvalidOperation):
        return f"has no numbers at {expected.path}"
    if len(found) != len(wanted):
        return f"has {len(found)} numbers at {expected.path}, not {len(wanted)}"
    for index, (is_, should) in enumerate(zip(found, wanted, strict=True)):
        if abs(is_ - should) > tolerance:
            return f"has {is_} at {expected.path}/{index}, which is not within {tolerance} of {should}"
    return ""


def _at(pointer: str, document: Any) -> Any:
    """Resolve a JSON pointer (RFC 6901)."""
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        document = document[int(key)] if isinstance(document, list) else document[key]
    return document


def _flat(value: object) -> list[Decimal]:
    if isinstance(value, list):
        return [number for item in value for number in _flat(item)]
    return [Decimal(str(value))]
