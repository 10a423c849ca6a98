"""A run's training curves, kept beside it: a line of numbers for each point, whoever tracks the run."""

import errno
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

    Appended to, so a kill costs at most the line that is being written. A run that goes on cuts off what it is about
    to do again, so each step is there once; where that cannot be written, what was said of a step last holds.

    Args:
        path: of the file; made when first written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begun = self._failed = False

    def append(self, values: Mapping[str, float], step: int) -> None:
        """Add values at a number of optimiser steps done. A disk that takes no more costs the curves, not the run."""
        try:
            self._write(_line({STEP: step, **values}))
        except OSError as error:
            self._fail(error)

    def go_on_from(self, step: int) -> None:
        """Leave out what was said after a number of steps, all at once: it is done, and said, again."""
        try:
            points = list(self._points())
            kept = [point for point in points if point[STEP] <= step]
            if len(kept) < len(points) or not self._is_whole():
                partial = self.path.with_suffix(".partial")
                partial.write_bytes(b"".join(_line(point) for point in kept))
                partial.replace(self.path)
        except OSError as error:
            self._fail(error)

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
            if not self._begun and not self._is_whole():
                line = b"\n" + line  # a kill has torn the last one
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._begun = True

    def _is_whole(self) -> bool:
        if not self.path.exists() or not self.path.stat().st_size:
            return True
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"

    def _fail(self, error: OSError) -> None:
        if not self._failed:
            log.warning("%s cannot be written: %s; training goes on without it", self.path, error.strerror)
        self._failed, self._begun = True, False

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


def _line(point: Mapping[str, float]) -> bytes:
    return json.dumps(point, separators=(",", ":")).encode() + b"\n"
