"""Identity is content: a digest of plain data, stable across processes and machines."""

import dataclasses
import hashlib
import json
from typing import Any

from pydantic import BaseModel


def plain(value: Any) -> Any:
    """Return `value` as JSON data; a dataclass or spec section carries the name of its type.

    Fields with metadata `identity: False` (where a file lies, say) are left out.
    Raises TypeError for anything that has no plain form, so nothing can enter a digest by its memory address.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, BaseModel):
        counted = [name for name, field in type(value).model_fields.items() if _is_identity(field.json_schema_extra)]
        return {"type": type(value).__name__, **{name: plain(getattr(value, name)) for name in counted}}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        identity = [f.name for f in dataclasses.fields(value) if f.metadata.get("identity", True)]
        fields = {name: plain(getattr(value, name)) for name in identity}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no plain form, so it has no digest")


def _is_identity(metadata: Any) -> bool:
    return not isinstance(metadata, dict) or bool(metadata.get("identity", True))


def digest(value: Any) -> str:
    """Return 16 hexadecimal digits that stand for the content of `value`."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
