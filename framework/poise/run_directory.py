"""A run's directory: what is in it, whose it is, and whether the run is over."""

import fcntl
import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from poise import kept
from poise.continuing import change_of_data, changes_of_config
from poise.disk import way_out
from poise.errors import UserError
from poise.files.shown import quoted
from poise.secrets import redact

LOGGERS = ("poise", "lightning.pytorch", "lightning.fabric", "py.warnings")
LEFTOVERS = {
    *("config.yaml", "lock", "log.txt", "predictor", "tracking", "attacks"),
    *("report.txt", "report.html", "figures"),
}
BEFORE = {"lock", "logs", "config.yaml.partial"}  # what may be there of a run before its config is

NO_REPORT = "bring it back, or delete it: the run then goes on from its last checkpoint to its end"

log = logging.getLogger("poise")


class InUse(UserError):
    """Another process is at work in a run's directory."""


class RunDirectory:
    """Paths inside a run's directory.

    Args:
        path: of the directory; made when first written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.data = path / "data.json"
        self.report = path / "report.json"
        self.curves = path / "curves.jsonl"
        self.checkpoints = path / "checkpoints"
        self.predictor = path / "predictor"
        self.tables = path / "tables"
        self.attacks = path / "attacks"
        self.log = path / "log.txt"
        self.ranks = path / "logs"

    @property
    def finished(self) -> bool:
        """Whether the run here came to its end."""
        return self.report.is_file()

    def metrics(self) -> dict[str, float]:
        """The final metrics of a finished run.

        Raises:
            UserError: the report is damaged.
        """
        found = kept.read_mapping(self.report, NO_REPORT)
        for name, value in found.items():
            if not isinstance(value, int | float):
                raise kept.damaged(self.report, f"{quoted(name)} is no number", NO_REPORT)
        return found

    def told(self) -> str:
        """The report of a finished run as text."""
        text = self.path / "report.txt"
        return text.read_text(encoding="utf-8") if text.is_file() else ""

    def write_report(self, metrics: Mapping[str, float]) -> None:
        """Write the final metrics, all at once: a report is what says that a run is over."""
        kept.write_text(self.report, json.dumps(dict(metrics), indent=2) + "\n")

    def check(self, config: str, resume: bool) -> None:
        """Whether a run with this config may begin or go on here; changes nothing.

        Raises:
            UserError: the directory is no run's, or holds a run that is not to be resumed or has another config, or
                what is in it is damaged.
        """
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise UserError(f"run_dir={self.path} is a file")
        begun = self.config.exists()
        if not begun and (strangers := sorted({p.name for p in self.path.iterdir()} - BEFORE)):
            raise UserError(f"run_dir={self.path} is not a run's: it holds {strangers[0]}; name another directory")
        self._check_kinds()
        if not begun:
            return
        if not resume:
            raise UserError(f"run_dir={self.path} holds a run already: resume=auto continues it, or name another")
        if changed := changes_of_config(self.config, config):
            raise UserError(
                f"run_dir={self.path} holds a run with another config ({'; '.join(changed)}): "
                "continue it as it was, or name another run_dir"
            )

    def _check_kinds(self) -> None:
        """Whether what bears a name of ours is of our kind: else the run would fail when it comes to write it."""
        files = (self.config, self.data, self.report, self.curves, self.log)
        folders = (self.checkpoints, self.predictor, self.tables, self.attacks, self.ranks)
        for path, is_kind, kind in (
            *((path, Path.is_file, "file") for path in files),
            *((path, Path.is_dir, "directory") for path in folders),
        ):
            if path.exists() and not is_kind(path):
                raise UserError(f"{path} is no {kind}, as in a run's directory: move it away, or name another run_dir")

    def check_data(self, now: Mapping[str, Any]) -> None:
        """Whether the data are those that the run here began with, where one did; changes nothing.

        Raises:
            UserError: they have changed: what is trained further would be no run of either; or nobody can tell.
        """
        if self.data.is_file() and (changed := change_of_data(self.data, now)):
            raise UserError(
                f"run_dir={self.path} holds a run on other data: {changed}. Bring them back, or name another run_dir"
            )

    def keep_data(self, now: Mapping[str, Any]) -> None:
        """Write down what the data are.

        Raises:
            UserError: it cannot be written.
        """
        with self._written():
            kept.write_text(self.data, json.dumps(now) + "\n")

    def check_new(self) -> None:
        """Whether an evaluation may begin here, also in place of one that did not come to its end; changes nothing.

        Raises:
            UserError: there is a file of that name, or a directory that holds something else.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"run_dir={self.path} is a file")
        if self.finished or (self.path.is_dir() and {p.name for p in self.path.iterdir()} - LEFTOVERS):
            raise UserError(f"run_dir={self.path} holds something already: name a directory that is new or empty")

    def check_free(self) -> None:
        """Whether nobody is at work here now; changes nothing.

        Raises:
            InUse: another process does.
        """
        if (self.path / "lock").is_file() and not self.finished:
            with self.held():
                pass

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from working here meanwhile; a process that ends lets go, however it ends.

        Raises:
            InUse: another process is at work here.
            UserError: nothing can be written.
        """
        with self._written():
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / "lock").open("a+")
        with file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of this process, not of those that it forks
            except BlockingIOError:
                raise InUse(
                    f"run_dir={self.path} is in use: another process is at work there; wait for it, or name another "
                    "run_dir"
                ) from None
            except OSError:  # a file system without locks
                log.info("%s cannot be locked", self.path)
            yield

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            way = f"; {way_out(error)}, or name another directory" if way_out(error) else ""
            raise UserError(f"run_dir={self.path} cannot be written: {error.strerror}{way}") from error

    def claim(self, config: str) -> None:
        """Make the directory, where it is not there yet, and write the config into it.

        Raises:
            UserError: it cannot be written.
        """
        with self._written():
            self.path.mkdir(parents=True, exist_ok=True)
            kept.write_text(self.config, config)


def stack_name(names: tuple[str, ...]) -> str:
    """A stack's names as one word of letters, digits, _ and -."""
    return re.sub(r"[^\w-]+", "-", "-".join(names)) or "plain"


def default_path(names: tuple[str, ...]) -> Path:
    """`runs/<date>-<time>-<stack>` in the working directory, not taken yet."""
    base = Path("runs") / f"{datetime.now():%Y-%m-%d-%H%M%S}-{stack_name(names)}"
    taken, path = 1, base
    while path.exists():
        taken, path = taken + 1, base.with_name(f"{base.name}-{taken + 1}")
    return path


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """Write what the run says to a log file, meanwhile, and its warnings to the terminal; secrets left out."""
    handler = _ToFile(path)
    handler.setFormatter(_Redacted("%(asctime)s %(levelname)s %(message)s"))
    terminal = _terminal()
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    logging.captureWarnings(True)
    for name in LOGGERS:
        logging.getLogger(name).addHandler(handler)
    log.addHandler(terminal)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(handler)
        log.removeHandler(terminal)
        log.setLevel(levels["poise"])
        handler.close()


@contextmanager
def failures_logged() -> Iterator[None]:
    """Write into the log where a run failed: to see it again would take the run once more."""
    try:
        yield
    except UserError as error:
        log.error("%s", error)
        raise
    except Exception:
        log.exception("the run failed")
        raise


def _terminal() -> logging.Handler:
    """For warnings alone: how a run failed is said by whoever started it."""
    handler = _ToTerminal()
    handler.setFormatter(_Redacted("%(message)s"))
    handler.addFilter(lambda record: record.levelno == logging.WARNING)
    return handler


class _ToFile(logging.FileHandler):
    """Lines in a file. A disk that takes no more costs the log, not the run, and is said once."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        """Say why a line is not there."""
        if not self.failed:
            self.failed = True
            sys.stderr.write(f"{self.baseFilename} cannot be written: {sys.exc_info()[1]}\n")

    def close(self) -> None:
        """Close it; what it still holds of lines that found no room is lost."""
        with suppress(OSError):
            super().close()


class _ToTerminal(logging.Handler):
    """Lines where the terminal is now: above a progress bar, while there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        sys.stderr.write(f"{self.format(record)}\n")


class _Redacted(logging.Formatter):
    """Lines without secrets, nor are there any in what an exception says."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))
