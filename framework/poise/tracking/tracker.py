"""What a run tells the tracker: its numbers while it trains, its report, and how it ended."""

import json
import logging
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from poise.config import Config
from poise.history import History
from poise.run_directory import RunDirectory
from poise.secrets import redact
from poise.stopping import AGAIN, Stopped
from poise.sweep import Sweep, around
from poise.tracking import address, facts
from poise.tracking.inputs import inputs
from poise.tracking.lock import held
from poise.tracking.notices import warn
from poise.tracking.parent import Child, values_as_tags
from poise.tracking.server import Server
from poise.tracking.spool import Spool, State, read_state
from poise.tracking.writer import Writer

if TYPE_CHECKING:
    from poise.data.dataset import Splits
    from poise.tracking.curves import Write

log = logging.getLogger("poise")

FOLDER = "tracking"
GIT, ENVIRONMENT = "git.json", "environment.json"
REPORTS = ("report.json", "report.txt", "report.html")
FIGURES = "figures"
OVER = ("FINISHED", "FAILED", "KILLED", "SCHEDULED")  # of a run that no process trains
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
        self.spool.state.parent = parent or self.spool.state.parent
        called, sweep = directory.path.resolve().name, around(directory.path)
        self.spool.state.tags |= {**tags, **(values_as_tags(sweep.runs[called]) if sweep else {})}
        uri = _uri(config, self.spool.state)
        name = facts.run_name(config, called)
        self._opened = partial(_opened, uri, config.tracking.experiment, name, sweep)
        describe = partial(_described, config, self.spool, Path.cwd())
        self.writer = Writer(self.spool, lambda: self._opened(self.spool.state), describe, redact(uri))

    def begin(self) -> None:
        """Say that the run is running, and start to send."""
        self._settle()
        if not self.directory.finished:
            self._file(self.directory.config)
            self.spool.mark("RUNNING")
        self.writer.start()

    def writes(self) -> "list[Write]":
        """The spool."""
        return [self.spool.metrics]

    def data(self, splits: "Splits", used: Sequence[str] = USED) -> None:
        """Track the splits that are used, `test` last: names, digests and sizes, no examples."""
        _quietly(partial(self._data, splits, used), self.directory)

    def report(self, metrics: Mapping[str, float], table: str) -> None:
        """Track the final metrics, the table as the run's description, and the predictor whose they are.

        At step 0, for what has no later one MLflow draws as bars, run beside run. Those of the validation are the best
        epoch's, named so.
        """
        _quietly(partial(self._report, metrics, table), self.directory)

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
                f"poise sync run_dir={self.directory.path} sends them."
            )
        if self.spool.dropped:
            warn(f"Tracking dropped {self.spool.dropped} values and files: {self.spool.folder} was full.")
        self.spool.close()

    def wind_up(self) -> bool:
        """Send what a run has left that no process trains any more, and how it ended; whether all is sent.

        Raises:
            Exception: it cannot be made at another address than before; nothing is changed then.
        """
        try:
            return self._wound_up()
        finally:
            self.spool.close()

    def _wound_up(self) -> bool:
        if self._moves:
            elsewhere = self.spool.state.elsewhere(self.writer.shown)
            elsewhere.run_id = self._opened(elsewhere).run_id
            self._move(elsewhere)
        self._settle()
        if self.spool.status not in OVER:
            for path in _told(self.directory):
                self._file(path)
            self.spool.mark("FINISHED" if self.directory.finished else "KILLED", _last_sign(self.directory))
        self.writer.describe = partial(_described, self.config, self.spool, None)
        return self.writer.send()

    @property
    def _moves(self) -> bool:
        """Whether the run is tracked at another address than before."""
        return self.spool.state.uri not in (None, self.writer.shown)

    def _settle(self) -> None:
        """Remember the address; a new run starts where it is another."""
        if self._moves:
            self._move(self.spool.state.elsewhere(self.writer.shown))
        self.spool.state.uri = self.writer.shown
        self.spool.save()

    def _move(self, elsewhere: State) -> None:
        metrics = self.directory.metrics() if self.directory.finished else {}  # where damaged, before all is forgotten
        before = self.spool.state.uri
        log.warning("tracking: %s was the address before; a new run starts at %s", before, elsewhere.uri)
        self.spool.renew(elsewhere)
        self._retell(metrics)

    def _retell(self, metrics: Mapping[str, float]) -> None:
        """Append what the run has told so far, for a place that has not heard of it; when is not known any more."""
        self._file(self.directory.config)
        points: dict[int, dict[str, float]] = {}
        for name, curve in History(self.directory.curves).read().items():
            for step, value in curve.items():
                points.setdefault(step, {})[name] = value
        for step in sorted(points):
            self.spool.metrics(points[step], step, self.spool.state.started)
        if self.directory.finished:
            self._report(metrics, self.directory.told())

    def _data(self, splits: "Splits", used: Sequence[str]) -> None:
        datasets = inputs(self.config, splits, used)
        self.spool.inputs(datasets)
        self._tested = {field: datasets[-1][field] for field in ("name", "digest")}

    def _report(self, metrics: Mapping[str, float], table: str) -> None:
        named = {f"best/{name}" if name.startswith("val/") else name: value for name, value in metrics.items()}
        values, now = {facts.name_of(name): value for name, value in named.items()}, self.spool.now()
        self.spool.metrics(values, 0, now)
        self.spool.tags({facts.DESCRIPTION: facts.description(table)})
        self.spool.artifact("report.txt", f"{table.rstrip()}\n")
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
    with quiet(), held(directory.path / FOLDER) as mine:
        tracker = _begun(partial(Tracker, config, directory, parent, tags), directory) if mine else None
        if tracker is None:
            yield NoTracker()
            return
        try:
            yield tracker
        except BaseException as error:
            _quietly(partial(tracker.end, _status(error)), directory)
            raise
        _quietly(partial(tracker.end, "FINISHED"), directory)


def _status(error: BaseException) -> str:
    """As MLflow has it; a job that goes on later waits for its turn."""
    if isinstance(error, Stopped):
        return "SCHEDULED" if error.code == AGAIN else "KILLED"
    return "FAILED" if isinstance(error, Exception) else "KILLED"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back what MLflow and its parts warn of themselves."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=THEIRS)
        yield


def run_id(directory: Path) -> str | None:
    """The id in MLflow of the run in a directory; None where it is not tracked.

    A copy of what a server keeps is called by the id.
    """
    copied = directory.name if re.fullmatch(r"[0-9a-f]{32}", directory.name) else None
    return read_state(directory / FOLDER).run_id or copied


def send_rest(config: Config, directory: RunDirectory) -> None:
    """Send what a finished run could not."""
    folder = directory.path / FOLDER
    if not folder.is_dir() or is_sent(folder, ["FINISHED"]):
        return
    with tracked(config, directory, first=True):
        pass


def is_sent(folder: Path, ends: Collection[str] = OVER) -> bool:
    """Whether nothing waits in a spool's folder, and the run's end is among those."""
    spool = folder / "spool.jsonl"
    state = read_state(folder)
    return state.status in ends and state.described and spool.is_file() and spool.stat().st_size == state.sent


def _told(directory: RunDirectory) -> Iterator[Path]:
    """What a run may leave for people to look at; the log last, for it may tell of the others."""
    yield from (directory.path / name for name in REPORTS)
    yield from sorted((directory.path / FIGURES).rglob("*"))
    yield directory.log


def _last_sign(directory: RunDirectory) -> int | None:
    """When a run was last heard of, in milliseconds."""
    heard = [path.stat().st_mtime_ns for path in (directory.log, directory.curves) if path.is_file()]
    return max(heard) // 10**6 if heard else None


def _begun(make: Callable[[], Tracker], directory: RunDirectory) -> Tracker | None:
    found: list[Tracker] = []

    def begin() -> None:
        tracker = make()
        tracker.begin()
        found.append(tracker)

    _quietly(begin, directory)
    return found[0] if found else None


def _quietly(act: Callable[[], None], directory: RunDirectory) -> None:
    """Do it; that it fails is said, and fails nothing else."""
    try:
        act()
    except Exception as error:
        warn(f"Tracking of {directory.path} failed: {type(error).__name__}: {error}")


def _uri(config: Config, state: State) -> str:
    """The address: as given now, else where the run has been tracked, else the default."""
    return address.absolute(address.given(config.tracking.uri) or state.uri or address.DEFAULT, Path.cwd())


def _opened(uri: str, experiment: str, name: str, sweep: Sweep | None, state: State) -> Server:
    if sweep is not None:
        return Child(sweep, uri, experiment, state.key, state.run_id, name, state.started)
    return Server(uri, experiment, state.key, state.run_id, name, state.started, state.parent)


def _described(config: Config, spool: Spool, folder: Path | None) -> tuple[dict[str, str], dict[str, str]]:
    """Parameters and tags of a run; git's state and the environment become artifacts, as they were at first.

    Args:
        config: of the run.
        spool: of the run.
        folder: that it runs in; None where it does not any more: nothing of now is said of it then.
    """
    kept = {name: spool.artifacts / name for name in (GIT, ENVIRONMENT)}
    found = {name: path.read_text(encoding="utf-8") for name, path in kept.items() if path.is_file()}
    if folder is not None and ENVIRONMENT not in found:
        state = facts.git_state(folder)
        found = {GIT: json.dumps(state, indent=2) + "\n"} if state else {}
        found[ENVIRONMENT] = facts.environment()
    for name, text in found.items():
        spool.artifact(name, text)
    git = json.loads(found.get(GIT, "{}"))
    return facts.parameters(config), facts.tags(config) | facts.git_tags(git) | spool.state.tags
