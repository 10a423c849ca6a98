"""What a spool's line may say, and which lines say nothing: a disk's fault costs a line, never what comes after it."""

import json
import re
from collections.abc import Callable
from typing import Any

Record = dict[str, Any]  # metrics of a step, tags, an artifact, the run's model, its data, or a status

MOST = 2**63  # that MLflow's databases keep, and what is below fits in a float
HALVES = re.compile("[\ud800-\udfff]")  # of characters, which JSON may hold, and nothing else
STATUSES = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
NEEDED: dict[str, tuple[str, ...]] = {  # by each kind of record, beside what it is called after
    "metrics": ("time", "step"),
    "tags": (),
    "artifact": (),
    "model": (),
    "values": ("time", "dataset"),
    "inputs": (),
    "status": ("time",),
}


def parsed(line: bytes) -> Record | None:
    """The record that a line holds; None where it holds none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and _is_whole(record) else None


def kind_of(record: Record) -> str:
    """Which of NEEDED a record is."""
    return next(kind for kind in NEEDED if kind in record)


def is_count(value: object) -> bool:
    """Whether a value is a whole number of a size that is kept, 0 or more."""
    return type(value) is int and 0 <= value < MOST


def is_text(value: object) -> bool:
    """Whether a value is a text that can be written and sent."""
    return isinstance(value, str) and HALVES.search(value) is None


def is_texts(value: object) -> bool:
    """Whether a value is a mapping of texts to texts."""
    return isinstance(value, dict) and all(is_text(part) for item in value.items() for part in item)


def _is_numbers(value: object) -> bool:
    return isinstance(value, dict) and all(is_text(name) and _is_number(number) for name, number in value.items())


def _is_number(value: object) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < MOST)


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(is_texts(item) for item in value)


FIELDS: dict[str, Callable[[object], bool]] = {
    "time": is_count,
    "step": is_count,
    "metrics": _is_numbers,
    "tags": is_texts,
    "artifact": is_text,
    "file": is_text,
    "model": is_text,
    "values": _is_numbers,
    "dataset": is_texts,
    "inputs": _is_list_of_texts,
    "status": STATUSES.__contains__,
}


def _is_whole(record: Record) -> bool:
    kinds = [kind for kind in NEEDED if kind in record]
    if len(kinds) != 1 or not all(name in record for name in NEEDED[kinds[0]]):
        return False
    return all(name in FIELDS and FIELDS[name](value) for name, value in record.items())
