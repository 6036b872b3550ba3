"""Where the tracking store is, and whether it answers there."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from urllib.parse import unquote, urlsplit

from mlflow.store.db.db_types import DATABASE_ENGINES

from harness.concealing import concealed, without_secrets
from harness.errors import HarnessError
from harness.workspace import Workspace


def tracking_uri(workspace: Workspace) -> str:
    """Return MLFLOW_TRACKING_URI where it is set, else the workspace's own database, always by absolute path."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{workspace.database}"


def is_server(uri: str) -> bool:
    """Whether a store is behind an MLflow server."""
    return urlsplit(uri).scheme in ("http", "https")


def is_database(uri: str) -> bool:
    """Whether a store is a database that this process opens itself."""
    return urlsplit(uri).scheme.partition("+")[0] in DATABASE_ENGINES


def sign_in(uri: str) -> str:
    """Return the URI of a store as mlflow may repeat it, in messages and in addresses of artifacts.

    User and password of a server go where mlflow looks for them; a database's driver needs them in the URI. Raises
    HarnessError for a user without password.
    """
    parts = urlsplit(uri)
    if not is_server(uri) or "@" not in parts.netloc:
        return uri
    if not parts.username or not parts.password:
        raise HarnessError(
            f"the tracking store {without_secrets(uri)} was given a user or a password alone; write both, as "
            "http://USER:PASSWORD@HOST, or set MLFLOW_TRACKING_TOKEN"
        )
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password)
    return without_secrets(uri)


def reach(workspace: Workspace) -> None:
    """Raise HarnessError, soon and clearly, where the store does not answer."""
    uri = tracking_uri(workspace)
    try:
        if is_server(uri):
            urllib.request.urlopen(f"{without_secrets(uri).rstrip('/')}/health", timeout=5).close()
        elif is_database(uri) and not uri.startswith("sqlite"):
            from sqlalchemy import NullPool, create_engine

            create_engine(uri, poolclass=NullPool).connect().close()
    except urllib.error.HTTPError:
        return  # it answers; whether it lets us in is its own to say
    except ModuleNotFoundError as error:
        raise HarnessError(
            f"the tracking store {without_secrets(uri)} needs the module {error.name!r}; for PostgreSQL: "
            "pip install 'ablation-harness[postgres]'"
        ) from error
    except Exception as error:  # drivers of every database raise their own
        raise unusable(uri, error) from error


def unusable(uri: str, error: Exception) -> HarnessError:
    """Return what to tell of a store that cannot be used."""
    message = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return HarnessError(
        f"cannot use the tracking store {without_secrets(uri)}: {concealed(message)}; "
        "set MLFLOW_TRACKING_URI to a store that answers, or unset it to use the workspace's own mlflow.db"
    )
