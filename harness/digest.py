"""Identity is content: a digest of plain data, stable across processes and machines."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from harness.errors import HarnessError


def plain(value: Any) -> Any:
    """Return `value` as JSON data; a dataclass or spec section carries the name of its type.

    Fields with metadata `identity: False` (where a file lies, say) are left out, and those with `unless default` where
    they say what was always done before there was such a field.
    Raises TypeError for anything that has no plain form, so nothing can enter a digest by its memory address.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, BaseModel):
        fields = type(value).model_fields.items()
        counted = [name for name, field in fields if _is_identity(field, getattr(value, name))]
        return {"type": type(value).__name__, **{name: plain(getattr(value, name)) for name in counted}}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        identity = [f.name for f in dataclasses.fields(value) if f.metadata.get("identity", True)]
        return {"type": type(value).__name__, **{name: plain(getattr(value, name)) for name in identity}}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no plain form, so it has no digest")


def _is_identity(field: FieldInfo, value: Any) -> bool:
    metadata = field.json_schema_extra
    counts = metadata.get("identity", True) if isinstance(metadata, dict) else True
    return value != field.default if counts == "unless default" else bool(counts)


def digest(value: Any) -> str:
    """Return 16 hexadecimal digits that stand for the content of `value`."""
    return hashlib.sha256(_text(plain(value)).encode()).hexdigest()[:16]


def digest_by(value: Any, field: str) -> Callable[[Any], str]:
    """Return a function from what `field` of a dataclass may be to the digest of `value` with that in it.

    All else is put into text once, which is what takes time.
    """
    data = plain(value)
    before = {key: item for key, item in data.items() if key < field}
    after = {key: item for key, item in data.items() if key > field}
    head = _text(before)[:-1] + ("," if before else "") + _text(field) + ":"
    tail = ("," if after else "") + _text(after)[1:]
    begun = hashlib.sha256(head.encode())

    def finish(item: Any) -> str:
        sha = begun.copy()
        sha.update((_text(plain(item)) + tail).encode())
        return sha.hexdigest()[:16]

    return finish


def _text(data: Any) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def file_digest(path: Path, what: str = "weights file") -> str:
    """Return the sha256 of a file, which is `what`; raises HarnessError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise HarnessError(f"cannot read {what} {path}: {error.strerror}") from error
