"""A sweep's directory: which runs it has, what each is called, and what each has of the axes."""

import json
import os
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from poise import kept
from poise.errors import UserError
from poise.files.shown import quoted
from poise.run_directory import RunDirectory

FILE = "sweep.json"
LONGEST = 120  # characters of a name
NAME = re.compile(r"[\w=,.+-]+", re.ASCII)
WAY_OUT = "bring it back, or delete it and submit each run by itself: poise submit config=RUN/config.yaml run_dir=RUN"


@dataclass(frozen=True)
class Sweep:
    """What stays the same of a sweep from its submission on; each run's config is kept in the run's own directory.

    Args:
        path: of the directory, in which those of the runs lie.
        runs: the values of the axes by path, of each run by the name of its directory; in the order of the array.
        working: directory that it was submitted in, from which relative paths in its configs start.
        key: by which the run that stands for the sweep is found where it is tracked.
        started: when it was submitted, in milliseconds.
    """

    path: Path
    runs: Mapping[str, Mapping[str, str]]
    working: str = field(default_factory=os.getcwd)
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: int = field(default_factory=lambda: time.time_ns() // 10**6)

    @property
    def axes(self) -> dict[str, list[str]]:
        """The values of each axis, by path."""
        paths = next(iter(self.runs.values()))
        return {path: list(dict.fromkeys(values[path] for values in self.runs.values())) for path in paths}

    @property
    def finished(self) -> bool:
        """Whether all runs came to their end."""
        return all(self.directory(name).finished for name in self.runs)

    def directory(self, name: str) -> RunDirectory:
        """Of one run, by its name."""
        return RunDirectory(self.path / name)

    def write(self) -> None:
        """Write it into its directory, which is there, all at once."""
        values = {name: value for name, value in vars(self).items() if name != "path"}
        kept.write_text(self.path / FILE, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def is_sweep(path: Path) -> bool:
    """Whether a directory is a sweep's."""
    return os.path.isfile(path / FILE)


def read(path: Path) -> Sweep:
    """The sweep in a directory.

    Raises:
        UserError: there is none, or its file is damaged.
    """
    if not is_sweep(path):
        what = f"is no sweep's: it holds no {FILE}" if os.path.exists(path) else "is not there"
        raise UserError(f"run_dir={path} {what}; give the directory of a sweep")
    file = path / FILE
    values = kept.read_mapping(file, WAY_OUT)
    if wrong := _wrong(values):
        raise kept.damaged(file, wrong, WAY_OUT)
    return Sweep(path, **values)


def _wrong(values: Mapping[str, Any]) -> str | None:
    """What a file says that no sweep's does; None where it is a sweep's."""
    kinds = {"runs": dict, "working": str, "key": str, "started": int}
    for name, kind in kinds.items():
        if not isinstance(values.get(name), kind):
            return f"{name} is missing" if name not in values else f"{name} is not as it was written"
    if strangers := [name for name in values if name not in kinds]:
        return f"{quoted(strangers[0])} has no meaning there"
    runs = values["runs"]
    if not runs:
        return "it has no runs"
    axes = next(iter(runs.values()))
    for name, own in runs.items():
        if not NAME.fullmatch(name) or name.startswith("."):
            return f"{quoted(name)} is no name of a run"
        if not own or not isinstance(own, dict) or not all(isinstance(value, str) for value in own.values()):
            return f"{quoted(name)} has no values of the axes"
        if own.keys() != axes.keys():
            return f"{quoted(name)} has other axes than the first run"
    return None


def around(run: Path) -> Sweep | None:
    """The sweep that the run in a directory belongs to; None where it stands alone."""
    place = run.resolve()
    found = read(place.parent) if is_sweep(place.parent) else None
    return found if found and place.name in found.runs else None


def named(runs: Sequence[Mapping[str, str]]) -> dict[str, Mapping[str, str]]:
    """Runs by names that say what differs, such as `recipe=trades-awp,seed=1`.

    Of letters, digits and =,.+-_ alone, so that a name is one word of any shell; unique whatever the case.
    """
    found: dict[str, Mapping[str, str]] = {}
    taken: set[str] = set()
    for values in runs:
        labels = _labels(list(values))
        name = base = ",".join(f"{label}={_safe(values[path])}" for path, label in labels.items())[:LONGEST]
        number = 1
        while name.lower() in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(name.lower())
        found[name] = values
    return found


def _labels(paths: Sequence[str]) -> dict[str, str]:
    """The last parts of paths; all of one whose last part another has as well."""
    last = [path.rpartition(".")[2] for path in paths]
    chosen = [path if last.count(part) > 1 else part for path, part in zip(paths, last, strict=True)]
    return {path: _safe(text).strip("-.") or "axis" for path, text in zip(paths, chosen, strict=True)}


def _safe(text: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", text, flags=re.ASCII)
