"""Small files that outlive a process: written all at once, and read as if a stranger had written them."""

import json
import os
from pathlib import Path
from typing import Any

from poise.errors import UserError


def write_text(path: Path, text: str) -> None:
    """Write a file, all at once: a kill, a full disk or a power failure leaves what was there before."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # else the new name may come to the disk before what it stands for
    partial.replace(path)


def read_text(path: Path, way_out: str) -> str:
    """What a file says.

    Args:
        path: of the file.
        way_out: what to do where it is damaged; the end of a sentence.

    Raises:
        UserError: it cannot be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise damaged(path, "this is no text", way_out) from None
    except OSError as error:
        raise damaged(path, error.strerror or str(error), way_out) from None


def read_mapping(path: Path, way_out: str) -> dict[str, Any]:
    """What a file of JSON says by name.

    Args:
        path: of the file.
        way_out: as of read_text.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    text = read_text(path, way_out)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise damaged(path, "this is no JSON" if text.strip() else "this is empty", way_out) from None
    if not isinstance(found, dict):
        raise damaged(path, "this is no mapping", way_out)
    return found


def damaged(path: Path, what: str, way_out: str) -> UserError:
    """The mistake of a file that does not say what it should."""
    return UserError(f"{path} is damaged: {what}; {way_out}")
