"""A run's training curves, kept beside it: a line of numbers for each point, whoever tracks the run."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

log = logging.getLogger("poise")

STEP = "step"

Curves = dict[str, dict[int, float]]  # of each name, its values by optimiser steps done, the steps in order


class History:
    """Numbers of a training by step, in a file of one JSON object a line, such as `{"step": 10, "train/loss": 0.7}`.

    Only ever appended to, so a kill costs at most the line that is being written. A resumed run appends the steps
    that it does again, and what was said of a step last is what holds.

    Args:
        path: of the file; made when first written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begun = self._failed = False

    def append(self, values: Mapping[str, float], step: int) -> None:
        """Add values at a number of optimiser steps done. A disk that takes no more costs the curves, not the run."""
        line = json.dumps({STEP: step, **values}, separators=(",", ":"))
        try:
            self._write(line.encode())
        except OSError as error:
            if not self._failed:
                log.warning("%s cannot be written: %s; training goes on without it", self.path, error.strerror)
            self._failed = True

    def read(self) -> Curves:
        """All curves; of a step that was done twice, what was written last. Empty where nothing was written."""
        curves: Curves = {}
        for point in self._points():
            step = point.pop(STEP)
            for name, value in point.items():
                curves.setdefault(name, {})[int(step)] = value
        return {name: dict(sorted(points.items())) for name, points in curves.items()}

    def _write(self, line: bytes) -> None:
        with self.path.open("ab", buffering=0) as file:
            if not self._begun and file.tell() and not self._is_whole():
                line = b"\n" + line  # a kill has torn the last one
            file.write(line + b"\n")
        self._begun = True

    def _is_whole(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"

    def _points(self) -> Iterator[dict[str, float]]:
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                point = json.loads(line)
            except ValueError:  # torn
                continue
            if isinstance(point, dict) and isinstance(point.get(STEP), int):
                yield {name: value for name, value in point.items() if isinstance(value, int | float)}
