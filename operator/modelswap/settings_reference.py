"""The reference of the settings, made from the model: `python -m modelswap.settings_reference FILE`."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from .settings import Settings


def render() -> str:
    """The whole reference, in Markdown."""
    prefix = Settings.model_config["env_prefix"]
    rows = [_row(f"{prefix}{name}".upper(), field) for name, field in Settings.model_fields.items()]
    return "\n".join(
        [
            "# Settings of the operator",
            "",
            "Environment variables, made from the model by `make generate`. The chart sets them (`values.yaml`).",
            "",
            "| variable | default | meaning |",
            "| --- | --- | --- |",
            *rows,
            "",
        ]
    )


def _row(variable: str, field: FieldInfo) -> str:
    meaning = " ".join((field.description or "").split())
    return f"| `{variable}` | {_default(field)} | {meaning} |"


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "the machine's name"
    if field.default is PydanticUndefined:
        return "required"
    return f"`{field.default}`" if field.default != "" else ""


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render())
