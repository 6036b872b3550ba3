"""What all sections of a spec share: numbers, declarations of fields, and how strictly they are read."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def no_identity(default: Any) -> Any:
    """Declare a field that changes no number of a training, so that it is no part of its identity."""
    return Field(default=default, json_schema_extra={"identity": False})


def setting(default: Any, **constraints: Any) -> Any:
    """Declare a field that is part of a training's identity where it is used, for trainings are older than it."""
    return Field(default=default, json_schema_extra={"identity": "unless default"}, **constraints)


class Section(BaseModel):
    """A part of a spec."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
