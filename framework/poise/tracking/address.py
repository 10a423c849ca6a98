"""Where runs are tracked: the address of a server or a database. Imports nothing heavy: `poise ui` asks too."""

import os
from importlib.metadata import entry_points
from pathlib import Path

from poise.errors import nearest

VARIABLE = "MLFLOW_TRACKING_URI"
SQLITE = "sqlite:///"
DEFAULT = f"{SQLITE}mlflow.db"
SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def resolve(uri: str | None, cwd: Path) -> str:
    """The address that runs started in a directory are tracked at.

    Args:
        uri: as given; None is what MLFLOW_TRACKING_URI says, else an SQLite database, mlflow.db, in `cwd`.
        cwd: what a database's relative path starts from.
    """
    return absolute(given(uri) or DEFAULT, cwd)


def given(uri: str | None) -> str | None:
    """The address that the config or the environment names; None where neither does."""
    return uri or os.environ.get(VARIABLE) or None


def absolute(uri: str, cwd: Path) -> str:
    """An address that means the same from any directory."""
    path = database(uri)
    return uri if path is None else f"{uri.partition(':///')[0]}:///{cwd / path}"


def database(uri: str) -> Path | None:
    """The file of an SQLite database; None for other addresses and for one in memory."""
    scheme, separator, rest = uri.partition(":///")
    path = rest.partition("?")[0]
    return Path(path) if separator and scheme.partition("+")[0] == "sqlite" and path not in ("", ":memory:") else None


def is_database(uri: str) -> bool:
    """Whether MLflow opens it itself, and keeps artifacts as files, rather than asking a server."""
    return uri.partition(":")[0].partition("+")[0] in DATABASES


def mistake(uri: str) -> str | None:
    """What is wrong with an address, to stand between `tracking.uri=… ` and a full stop; None where nothing is."""
    scheme, colon, rest = uri.partition(":")
    name = scheme.partition("+")[0]
    if name == "databricks" or name in _plugins():
        return None
    if name in SCHEMES:
        whole = rest.startswith("//") and (name in DATABASES or rest[2:3] not in "/:?#")  # nothing is in any text
        return None if whole else f"is no address: write {scheme}://{'…' if name in DATABASES else 'host:port'}"
    if not colon or name == "file":
        return f"is a file or folder, in which MLflow keeps no runs: give {DEFAULT}, or a server as http://…"
    known = [*SCHEMES, *_plugins()]
    hint = nearest(name, known).replace(" D", " (d").replace("?", "?)")
    return f"has a scheme that MLflow does not know{hint}: give one of {', '.join(known)}"


def _plugins() -> list[str]:
    return [found.name for found in entry_points(group="mlflow.tracking_store")]
