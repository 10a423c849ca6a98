"""What is to be tracked, on disk until it is sent: appended by the run, read and crossed off by the writer."""

import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from poise.secrets import redact
from poise.tracking.notices import warn
from poise.tracking.records import STATUSES, Record, is_count, is_text, is_texts, parsed

LIMIT = 256 * 2**20  # bytes that wait on disk; further metrics are dropped
CHUNK = 2**20  # bytes that the writer takes at a time
COMPACT = 2**20  # bytes of a spool that is emptied once all of it is sent
NAMES = 200  # metrics in a line, so that a line is always shorter than a chunk


@dataclass
class State:
    """How far the writer has come.

    Args:
        key: of the run, by which it is found on a server that made it and could not say so.
        started: when the run did, in milliseconds: it is made on the server later.
        uri: that the run is tracked at, without credentials.
        run_id: MLflow's; None until it is made.
        described: whether parameters and tags are sent.
        sent: bytes of the spool.
        status: the last that was sent.
        last: step of each metric up to which it is sent.
        parent: MLflow's id of the run that it belongs to.
        tags: beside those that every run has.
    """

    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: int = field(default_factory=lambda: milliseconds())
    uri: str | None = None
    run_id: str | None = None
    described: bool = False
    sent: int = 0
    status: str | None = None
    last: dict[str, int] = field(default_factory=dict)
    parent: str | None = None
    tags: dict[str, str] = field(default_factory=dict)

    def elsewhere(self, uri: str) -> "State":
        """As of the same run before anything of it is sent, to another address."""
        return State(started=self.started, uri=uri, parent=self.parent, tags=self.tags)


class Spool:
    """Lines that are appended at one end and sent from the other; survives a kill at any moment.

    Args:
        folder: of the spool, its state and its artifacts; made where it is not there yet.
        limit: bytes beyond which metrics are dropped.
    """

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self.folder, self.limit = folder, limit
        self.artifacts = folder / "artifacts"
        self.artifacts.mkdir(parents=True, exist_ok=True)
        self._path, self._state_path = folder / "spool.jsonl", folder / "state.json"
        self.state, damaged = _read_state(folder)
        if damaged:
            warn(f"Tracking: {self._state_path} is damaged; what begins anew: {', '.join(damaged)}.")
        self.dropped = 0
        self._lock = threading.Lock()
        self._file = self._path.open("ab", buffering=0)
        self._size = self._mend()
        self._last = dict(self.state.last)
        self.status = self.state.status
        self._latest = self.state.started
        if lost := sum(parsed(line) is None for line in self._lines()):
            warn(f"Tracking: {self._path} is damaged: {lost} line{'s' * (lost != 1)} of it cannot be sent.")
        for record in self._waiting():
            self._note(record, self._last)
            self.status = record.get("status", self.status)
            self._latest = max(self._latest, record.get("time", 0))

    @property
    def unsent(self) -> int:
        """Bytes that wait."""
        return self._size - self.state.sent

    def waiting(self) -> tuple[int, int]:
        """How many values wait, and how many things besides: files, tags, what has become of the run."""
        values = others = 0
        for record in self._waiting():
            values += len(record.get("metrics", ()))
            others += "metrics" not in record
        return values, others

    def renew(self, state: State) -> None:
        """Forget all that was appended and sent: the run is made anew, somewhere else, as that state has it."""
        self.state = state
        with self._lock:
            self._file.truncate(0)
            self._size = 0
            self.save()
        self._last, self.status = {}, None

    def now(self) -> int:
        """The time in milliseconds, never before one that was given: clocks are set back, and curves are not."""
        self._latest = max(self._latest, milliseconds())
        return self._latest

    def metrics(self, values: Mapping[str, float], step: int, time: int | None = None) -> None:
        """Append those values of a step that a run, stopped and resumed, has not appended before."""
        new = {name: value for name, value in values.items() if step > self._last.get(name, -1)}
        now = time or self.now()
        for part in _parts(new):
            if self._size > self.limit or not self._append({"time": now, "step": step, "metrics": part}):
                self.dropped += len(part)
        self._last |= dict.fromkeys(new, step)

    def artifact(self, name: str, text: str) -> None:
        """Keep a text, without secrets, and append that it is to be sent."""
        path = self.artifacts / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, redact(text))
        except OSError:  # the disk is full
            self.dropped += 1
            return
        self._append({"artifact": name})

    def file(self, name: str, path: Path) -> None:
        """Append that a file is to be sent as it is, from where it lies."""
        self._append({"artifact": name, "file": self._from_here(path)})

    def model(self, predictor: Path) -> None:
        """Append that a predictor's directory is to be sent as the run's model."""
        self._append({"model": self._from_here(predictor)})

    def values(self, values: Mapping[str, float], time: int, dataset: Mapping[str, str]) -> None:
        """Append what the run's model came to: metrics of the run, with their time, and the data they were found on."""
        for part in _parts(values):
            self._append({"time": time, "values": part, "dataset": dict(dataset)})

    def inputs(self, datasets: Sequence[Mapping[str, str]]) -> None:
        """Append what the run learns from and is tested on."""
        self._append({"inputs": list(datasets)})

    def tags(self, values: Mapping[str, str]) -> None:
        """Append tags, without secrets."""
        self._append({"tags": {name: redact(value) for name, value in values.items()}})

    def mark(self, status: str, time: int | None = None) -> None:
        """Append what has become of the run: RUNNING, SCHEDULED, FINISHED, FAILED or KILLED."""
        if self._append({"time": time or self.now(), "status": status}):
            self.status = status

    def chunk(self) -> tuple[list[Record], int]:
        """The records that wait, as far as a chunk goes, and where they end."""
        with self._path.open("rb") as file:
            file.seek(self.state.sent)
            data = file.read(CHUNK)
            if b"\n" not in data:
                data += file.readline()  # a disk's fault can be longer than any line
        whole = data[: data.rfind(b"\n") + 1]
        return list(_records(whole.splitlines())), self.state.sent + len(whole)

    def cross_off(self, records: list[Record], end: int) -> None:
        """Remember that records are sent, up to a position."""
        for record in records:
            self._note(record, self.state.last)
            self.state.status = record.get("status", self.state.status)
        self.state.sent = end
        self.save()

    def save(self) -> None:
        """Write the state, all at once."""
        _replace(self._state_path, json.dumps(asdict(self.state)))

    def compact(self, least: int = COMPACT) -> None:
        """Empty a spool of `least` bytes or more of which all is sent."""
        with self._lock:
            if least <= self._size == self.state.sent:
                self._file.truncate(0)  # a kill before the state is saved is seen by `_mend`
                self._size = self.state.sent = 0
                self.save()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def path_of(self, name: str) -> Path:
        """Where what a record names lies."""
        return Path(os.path.normpath(self.folder / name))

    def _from_here(self, path: Path) -> str:
        """A path that stays right where the run's directory is moved."""
        return os.path.relpath(path.resolve(), self.folder.resolve())

    def _append(self, record: Record) -> bool:
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            try:
                written = self._file.write(line)
            except OSError:
                written = None
            if written != len(line):  # the disk is full
                self._file.truncate(self._size)
                return False
            self._size += len(line)
        return True

    def _mend(self) -> int:
        """Drop a last line that a kill has torn; returns the size of what is whole."""
        size = self._path.stat().st_size
        with self._path.open("rb") as file:
            start = max(0, size - CHUNK)
            file.seek(start)
            tail = file.read()
        if tail and not tail.endswith(b"\n"):
            size = start + tail.rfind(b"\n") + 1
            self._file.truncate(size)
        if self.state.sent > size:
            self.state.sent = 0
            self.save()
        return size

    def _waiting(self) -> Iterator[Record]:
        yield from _records(self._lines())

    def _lines(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            file.seek(self.state.sent)
            yield from file

    @staticmethod
    def _note(record: Record, last: dict[str, int]) -> None:
        for name in record.get("metrics", ()):
            last[name] = max(last.get(name, -1), record["step"])


def read_state(folder: Path) -> State:
    """What a spool's folder says of how far its writer has come; as of a new one where that is not said, or damaged.

    What is left of a damaged state is kept, lest a run be there twice: it is known by its id, and found by its key.
    """
    return _read_state(folder)[0]


def _read_state(folder: Path) -> tuple[State, list[str]]:
    """A state, and the names of what is damaged in it."""
    try:
        text = (folder / "state.json").read_bytes()
    except OSError:
        return State(), []
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return State(), ["all of it"]
    said = {name: value for name, value in found.items() if name in RIGHT}
    right = {name: value for name, value in said.items() if RIGHT[name](value)}
    return State(**right), sorted(said.keys() - right.keys())


def _is_text_or_none(value: object) -> bool:
    return value is None or is_text(value)


def _is_counts(value: object) -> bool:
    return isinstance(value, dict) and all(is_text(name) and is_count(step) for name, step in value.items())


RIGHT: dict[str, Callable[[object], bool]] = {
    "key": is_text,
    "started": is_count,
    "uri": _is_text_or_none,
    "run_id": _is_text_or_none,
    "described": lambda value: isinstance(value, bool),
    "sent": is_count,
    "status": lambda value: value is None or value in STATUSES,
    "last": _is_counts,
    "parent": _is_text_or_none,
    "tags": is_texts,
}


def _parts(values: Mapping[str, float]) -> Iterator[dict[str, float]]:
    items = list(values.items())
    for start in range(0, len(items), NAMES):
        yield dict(items[start : start + NAMES])


def _records(lines: Iterable[bytes]) -> Iterator[Record]:
    return (record for record in map(parsed, lines) if record is not None)


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def milliseconds() -> int:
    """The time, as MLflow counts it."""
    return time.time_ns() // 10**6
