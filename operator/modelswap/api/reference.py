"""The reference of the resources, made from the pydantic models.

Run `python -m modelswap.api.reference FILE` to write it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .crdgen import KINDS, Kind, custom_resource_definition

Schema = dict[str, Any]


def render() -> str:
    """The whole reference, in Markdown."""
    parts = ["# Reference", "", "Made from the models by `make generate`; `kubectl explain` tells the same."]
    for kind in KINDS:
        parts += ["", *_kind(kind)]
    return "\n".join(parts) + "\n"


def _kind(kind: Kind) -> Iterator[str]:
    version = custom_resource_definition(kind)["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    yield f"## {kind.name}"
    yield ""
    scope = "namespaced" if kind.namespaced else "cluster-wide"
    yield f"{schema['description']} Short name `{kind.short_name}`, {scope}."
    yield ""
    yield "| field | type | default | meaning |"
    yield "| --- | --- | --- | --- |"
    for part in ("spec", "status"):
        if part in schema["properties"]:
            yield from _rows(part, schema["properties"][part])


def _rows(path: str, schema: Schema) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        required = name in schema.get("required", ())
        default = "required" if required else _code(field.get("default"))
        yield f"| `{here}` | {_type(field)} | {default} | {_meaning(field)} |"
        inner = field.get("items", field)
        yield from _rows(f"{here}[]" if "items" in field else here, inner)


def _type(field: Schema) -> str:
    if "enum" in field:
        return " \\| ".join(field["enum"])
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    if "additionalProperties" in field:
        return f"map of {_type(field['additionalProperties'])}"
    return str(field.get("type", "integer or string"))


def _code(value: object) -> str:
    return "" if value in (None, "") else f"`{value}`"


def _meaning(field: Schema) -> str:
    rules = [rule["message"] for rule in field.get("x-kubernetes-validations", ())]
    text = " ".join([field.get("description", ""), *(f"({rule}.)" for rule in rules)])
    return " ".join(text.split()).replace("|", "\\|")


def main() -> None:
    """Write the reference to the file named on the command line."""
    Path(sys.argv[1]).write_text(render())


if __name__ == "__main__":
    main()
