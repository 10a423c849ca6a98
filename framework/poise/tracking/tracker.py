"""What a run tells the tracker: its numbers while it trains, its report, and how it ended."""

import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from poise.config import Config
from poise.run_directory import RunDirectory
from poise.secrets import redact
from poise.tracking import address, facts
from poise.tracking.inputs import inputs
from poise.tracking.lock import held
from poise.tracking.notices import warn
from poise.tracking.server import Server
from poise.tracking.spool import Spool, milliseconds, read_state
from poise.tracking.writer import Writer

if TYPE_CHECKING:
    from poise.data.dataset import Splits
    from poise.tracking.curves import Write

log = logging.getLogger("poise")

FOLDER = "tracking"
REPORTS = ("report.json", "report.txt", "report.html")
FIGURES = "figures"
USED = ("train", "test")  # splits, of a run that trains
TEXTS = {".txt", ".json", ".yaml", ".html", ".svg", ".csv"}  # which are sent without secrets
THEIRS = r"(mlflow|sqlalchemy|alembic|pydantic|requests|urllib3|git)(\..*)?$"  # modules that warn of themselves


class NoTracker:
    """Tracks nothing: what runs have that are not tracked, and ranks other than the first."""

    def writes(self) -> "list[Write]":
        """What takes the training's values."""
        return []

    def data(self, splits: "Splits", used: Sequence[str] = USED) -> None:
        """Track what is learned from and tested on."""

    def report(self, metrics: Mapping[str, float], table: str) -> None:
        """Track the final metrics, and the table that people read."""


class Tracker(NoTracker):
    """Tracks a run in MLflow. Never raises, and never makes the training wait.

    Args:
        config: of the run.
        directory: of the run; the spool lies in it.
        parent: id of the run that this one belongs to, under which MLflow shows it.
        tags: beside those that every run has.
    """

    def __init__(
        self,
        config: Config,
        directory: RunDirectory,
        parent: str | None = None,
        tags: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.config, self.directory = config, directory
        self.spool = Spool(directory.path / FOLDER)
        self._tested: dict[str, str] = {}  # the data that the final numbers are found on
        uri = _settled(config, self.spool)
        name = facts.run_name(config, directory.path.resolve().name)
        connect = partial(_connected, uri, config.tracking.experiment, name, self.spool, parent)
        describe = partial(_described, config, self.spool, Path.cwd(), tags)
        self.writer = Writer(self.spool, connect, describe, redact(uri))

    def begin(self) -> None:
        """Say that the run is running, and start to send."""
        if not self.directory.finished:
            self._file(self.directory.config)
            self.spool.mark("RUNNING")
        self.writer.start()

    def writes(self) -> "list[Write]":
        """The spool."""
        return [self.spool.metrics]

    def data(self, splits: "Splits", used: Sequence[str] = USED) -> None:
        """Track the splits that are used, `test` last: names, digests and sizes, no examples."""
        _quietly(partial(self._data, splits, used))

    def report(self, metrics: Mapping[str, float], table: str) -> None:
        """Track the final metrics, the table as the run's description, and the predictor whose they are.

        At step 0, for what has no later one MLflow draws as bars, run beside run. Those of the validation are the best
        epoch's, named so.
        """
        _quietly(partial(self._report, metrics, table))

    def end(self, status: str) -> None:
        """Track how the run ended, send what is left, and say what could not be sent."""
        if self.spool.status != "FINISHED":
            for path in _told(self.directory):
                self._file(path)
            self.spool.mark(status)
        if not self.writer.finish():
            warn(
                f"Tracking at {self.writer.shown}: {self.spool.unsent} bytes of {self.spool.folder} are not sent "
                f"({self.writer.error or 'it takes too long'}). "
                f"The same command with run_dir={self.directory.path} sends them."
            )
        if self.spool.dropped:
            warn(f"Tracking dropped {self.spool.dropped} values: {self.spool.folder} was full.")
        self.spool.close()

    def _data(self, splits: "Splits", used: Sequence[str]) -> None:
        datasets = inputs(self.config, splits, used)
        self.spool.inputs(datasets)
        self._tested = {field: datasets[-1][field] for field in ("name", "digest")}

    def _report(self, metrics: Mapping[str, float], table: str) -> None:
        named = {f"best/{name}" if name.startswith("val/") else name: value for name, value in metrics.items()}
        values, now = {facts.name_of(name): value for name, value in named.items()}, milliseconds()
        self.spool.metrics(values, 0, now)
        self.spool.tags({facts.DESCRIPTION: facts.description(table)})
        self.spool.artifact("report.txt", f"{table}\n")
        if self.directory.predictor.is_dir():
            self.spool.model(self.directory.predictor)
            tested = {name: value for name, value in values.items() if name.startswith("test/")}
            self.spool.values(tested, now, self._tested)
            self.spool.values({name: value for name, value in values.items() if name not in tested}, now, {})

    def _file(self, path: Path) -> None:
        name = path.relative_to(self.directory.path).as_posix()
        if not path.is_file():
            return
        if path.suffix in TEXTS:
            self.spool.artifact(name, path.read_text(encoding="utf-8", errors="replace"))
        else:
            self.spool.file(name, path)


@contextmanager
def tracked(
    config: Config,
    directory: RunDirectory,
    first: bool,
    parent: str | None = None,
    tags: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[NoTracker]:
    """Track what happens meanwhile, and how it ends.

    Args:
        config: of the run; `tracking=none` tracks nothing.
        directory: of the run.
        first: whether this process is rank 0, the only one that tracks.
        parent: id of the run that this one belongs to.
        tags: beside those that every run has.
    """
    if config.tracking.name == "none" or not first:
        yield NoTracker()
        return
    with warnings.catch_warnings(), held(directory.path / FOLDER) as mine:
        warnings.filterwarnings("ignore", module=THEIRS)
        tracker = _begun(partial(Tracker, config, directory, parent, tags)) if mine else None
        if tracker is None:
            yield NoTracker()
            return
        try:
            yield tracker
        except BaseException as error:
            _quietly(partial(tracker.end, "FAILED" if isinstance(error, Exception) else "KILLED"))
            raise
        _quietly(partial(tracker.end, "FINISHED"))


def run_id(directory: Path) -> str | None:
    """The id in MLflow of the run in a directory; None where it is not tracked.

    A copy of what a server keeps is called by the id.
    """
    copied = directory.name if re.fullmatch(r"[0-9a-f]{32}", directory.name) else None
    return read_state(directory / FOLDER).run_id or copied


def send_rest(config: Config, directory: RunDirectory) -> None:
    """Send what a finished run could not."""
    folder = directory.path / FOLDER
    if not folder.is_dir() or _is_sent(folder):
        return
    with tracked(config, directory, first=True):
        pass


def _is_sent(folder: Path) -> bool:
    spool = folder / "spool.jsonl"
    state = read_state(folder)
    return state.status == "FINISHED" and state.described and spool.is_file() and spool.stat().st_size == state.sent


def _told(directory: RunDirectory) -> Iterator[Path]:
    """What a run may leave for people to look at; the log last, for it may tell of the others."""
    yield from (directory.path / name for name in REPORTS)
    yield from sorted((directory.path / FIGURES).rglob("*"))
    yield directory.log


def _begun(make: Callable[[], Tracker]) -> Tracker | None:
    found: list[Tracker] = []

    def begin() -> None:
        tracker = make()
        tracker.begin()
        found.append(tracker)

    _quietly(begin)
    return found[0] if found else None


def _quietly(act: Callable[[], None]) -> None:
    """Do it; that it fails is said, and fails nothing else."""
    try:
        act()
    except Exception as error:
        warn(f"Tracking failed: {type(error).__name__}: {error}")


def _settled(config: Config, spool: Spool) -> str:
    """The address: as given now, else where the run has been tracked so far, else the default."""
    before, given = spool.state.uri, address.given(config.tracking.uri)
    uri = address.absolute(given or before or address.DEFAULT, Path.cwd())
    if before is not None and redact(uri) != before:
        log.warning("tracking: %s was the address before; a new run starts at %s", before, redact(uri))
        spool.state.run_id, spool.state.described = None, False
    spool.state.uri = redact(uri)
    spool.save()
    return uri


def _connected(uri: str, experiment: str, name: str, spool: Spool, parent: str | None) -> Server:
    return Server(uri, experiment, spool.state.key, spool.state.run_id, name, spool.state.started, parent)


def _described(
    config: Config, spool: Spool, folder: Path, tags: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Parameters and tags of a run; git's state and the environment become artifacts."""
    git = facts.git_state(folder)
    if git:
        spool.artifact("git.json", json.dumps(git, indent=2) + "\n")
    spool.artifact("environment.json", facts.environment())
    return facts.parameters(config), facts.tags(config) | facts.git_tags(git) | dict(tags)
