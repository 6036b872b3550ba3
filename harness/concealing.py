"""What may be said of where a store is: never the password or the token that opens it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from urllib.parse import parse_qsl, unquote, urlsplit

_HIDDEN = "***"


def without_secrets(uri: str) -> str:
    """Return a URI as it may be printed: user and password left out."""
    named = re.sub(r"://\S*@", "://", uri)
    return re.sub(r"\b(password=)[^&\s]+", rf"\1{_HIDDEN}", named, flags=re.IGNORECASE)


def concealed(text: str) -> str:
    """Return a message as it may be printed or kept, whatever a library below has put into it."""
    text = without_secrets(text)
    for secret in _secrets():
        text = text.replace(secret, _HIDDEN)
    return text


def _secrets() -> Iterator[str]:
    """Yield what the environment holds to open the store with, as written and as meant."""
    written = os.environ.get("MLFLOW_TRACKING_URI", "")
    uri = urlsplit(written)
    # A database's driver reads more than a URI may hold: a slash in a password, say.
    odd = re.search(r"://[^:\s]*:(\S*)@", written)
    found = [uri.password, odd and odd[1], *(value for key, value in parse_qsl(uri.query) if key.lower() == "password")]
    found += [os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("PASSWORD", "TOKEN")]
    for secret in filter(None, found):
        yield secret
        yield unquote(secret)
