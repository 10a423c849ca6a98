"""A sweep's directory: which runs it has, what each is called, and what each has of the axes."""

import json
import os
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from poise.errors import UserError
from poise.run_directory import RunDirectory

FILE = "sweep.json"
LONGEST = 120  # characters of a name


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
        kept = {name: value for name, value in vars(self).items() if name != "path"}
        partial = self.path / f"{FILE}.partial"
        partial.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(self.path / FILE)


def is_sweep(path: Path) -> bool:
    """Whether a directory is a sweep's."""
    return os.path.isfile(path / FILE)


def read(path: Path) -> Sweep:
    """The sweep in a directory.

    Raises:
        UserError: there is none.
    """
    try:
        return Sweep(path, **json.loads((path / FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        what = "is not there" if not path.exists() else f"is no sweep's: it holds no {FILE}"
        raise UserError(f"run_dir={path} {what}; give the directory of a sweep") from None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path / FILE} cannot be read: {error}") from None


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
