"""Hypothesis strategies from the OpenAPI schema of a CRD: objects that it takes, and objects that are broken somewhere.

`hypothesis-jsonschema` knows neither int-or-string, preserved unknown fields, nor the CEL rules that a valid object has
to keep, so that almost nothing that it makes is taken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

Schema = Mapping[str, Any]
Json = Any

_MATCHES = re.compile(r"self\.matches\(r?'(\^[^']*\$)'\)")
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=8), inner, max_size=3),
    max_leaves=6,
)
JUNK: st.SearchStrategy[Json] = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [-1, 0, 2**31, 2**63 - 1, 1.5, "", " ", "v1.0.0", "../..", "-", "ü", "\u202e\x00", "x" * 5000, [], {}]
    ),
    _JSON,
)


def valid(schema: Schema, hints: Mapping[str, st.SearchStrategy[Json]], path: str = "") -> st.SearchStrategy[Json]:
    """Values that a schema takes.

    Args:
        schema: of OpenAPI, structural.
        hints: path such as `spec.artifact.uri` (of items `[]`, of values of a map `{}`) → what to use instead.
        path: where the schema is.

    """
    if path in hints:
        return hints[path]
    if schema.get("x-kubernetes-int-or-string"):
        return st.integers(0, 1000) | st.sampled_from(["100m", "1", "512Mi", "0.25", "1e3"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "object":
            return _object(schema, hints, path)
        case "array":
            items = valid(schema["items"], hints, f"{path}[]")
            low = schema.get("minItems", 0)
            return st.lists(items, min_size=low, max_size=min(schema.get("maxItems", 3), max(low, 3)))
        case "integer":
            return st.integers(schema.get("minimum", -1000), schema.get("maximum", 1000))
        case "number":
            return st.floats(-1e6, 1e6, allow_nan=False)
        case "boolean":
            return st.booleans()
        case "string":
            return _string(schema)
    return _JSON


def _object(schema: Schema, hints: Mapping[str, st.SearchStrategy[Json]], path: str) -> st.SearchStrategy[Json]:
    properties: Mapping[str, Schema] = schema.get("properties", {})
    if not properties:
        if isinstance(values := schema.get("additionalProperties"), Mapping):
            keys = hints.get(f"{path}{{key}}", st.text(min_size=1, max_size=12))
            return st.dictionaries(keys, valid(values, hints, f"{path}{{}}"), max_size=2)
        if schema.get("x-kubernetes-preserve-unknown-fields"):
            return st.dictionaries(st.text(min_size=1, max_size=8), _JSON, max_size=2)
        return st.just({})
    children = {name: valid(inner, hints, f"{path}.{name}".lstrip(".")) for name, inner in properties.items()}
    required = set(schema.get("required", ()))
    return st.fixed_dictionaries(
        {name: child for name, child in children.items() if name in required},
        optional={name: child for name, child in children.items() if name not in required},
    )


def _string(schema: Schema) -> st.SearchStrategy[str]:
    rules = " ".join(rule["rule"] for rule in schema.get("x-kubernetes-validations", ()))
    pattern = schema.get("pattern") or next(iter(_MATCHES.findall(rules)), None)
    longest = schema.get("maxLength", 200)
    if schema.get("format") == "date-time":
        return st.datetimes().map(lambda moment: f"{moment.replace(microsecond=0).isoformat()}Z")
    if pattern:
        closed = pattern if pattern.endswith("$") else pattern + "[a-z0-9/]{0,12}$"
        return st.from_regex(closed, fullmatch=True, alphabet=_ALPHABET).filter(lambda text: len(text) <= longest)
    return st.text(min_size=schema.get("minLength", 0), max_size=min(longest, 20))


_ALPHABET = st.characters(codec="ascii", exclude_categories=["Cc"])


@st.composite
def broken(draw: st.DrawFn, whole: st.SearchStrategy[Json]) -> Json:
    """A valid value, with something wrong in one or two places."""
    value = draw(whole)
    for _ in range(draw(st.integers(1, 2))):
        value = _spoilt(draw, value)
    return value


def _spoilt(draw: st.DrawFn, value: Json) -> Json:
    if isinstance(value, dict) and value and draw(st.integers(0, 5)):
        name = draw(st.sampled_from(sorted(value)))
        rest = {key: inner for key, inner in value.items() if key != name}
        match draw(st.integers(0, 5)):
            case 0:
                return rest
            case 1:
                return value | {draw(st.sampled_from(["unknown", "Spec", "status"])): draw(JUNK)}
            case _:
                return {**rest, name: _spoilt(draw, value[name])}
    if isinstance(value, list) and value and draw(st.booleans()):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], _spoilt(draw, value[place]), *value[place + 1 :]]
    return draw(JUNK)
