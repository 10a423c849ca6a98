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
from poise.disk import way_out
from poise.errors import UserError
from poise.files.shown import listed, quoted
from poise.secrets import redact

LOGGERS = ("poise", "lightning.pytorch", "lightning.fabric", "py.warnings")
HARMLESS = (
    "run_dir",
    "resume",
    "strategy",
    "deepspeed",
    "trainer.accelerator",
    "trainer.checkpoint_every",
    "trainer.devices",
    "trainer.eval_batch_size",
    "trainer.progress",
    "trainer.timeout",
)
HARMLESS_GROUPS = ("calibration.", "evaluation.", "tracking.", "slurm.")  # nothing that is trained depends on them
LEFTOVERS = {"config.yaml", "lock", "log.txt", "predictor", "tracking", "report.txt", "report.html", "figures"}
CHANGES = 8  # of a config that are told
BEFORE = {"lock", "logs", "config.yaml.partial"}  # what may be there of a run before its config is

NO_REPORT = "Bring it back, or delete it: the run then goes on from its last checkpoint to its end."
NO_DATA = "Bring it back, or delete it to go on without a check that the data are those that the run began with."
NO_CONFIG = "Bring it back, or name another run_dir."

log = logging.getLogger("poise")


class InUse(UserError):
    """Another process trains in a run's directory."""


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
        if not self.config.exists():
            if strangers := sorted({p.name for p in self.path.iterdir()} - BEFORE):
                raise UserError(f"run_dir={self.path} is not a run's: it holds {strangers[0]}; name another directory")
            return
        if not resume:
            raise UserError(f"run_dir={self.path} holds a run already: resume=auto continues it, or name another")
        if changed := _changes(_values_in(self.config), _flat(config)):
            raise UserError(
                f"run_dir={self.path} holds a run with another config ({'; '.join(changed)}): "
                "continue it as it was, or name another run_dir"
            )

    def check_data(self, now: Mapping[str, Any]) -> None:
        """Whether the data are those that the run here began with, where one did; changes nothing.

        Raises:
            UserError: they have changed: what is trained further would be no run of either; or nobody can tell.
        """
        if self.data.is_file() and (changed := _difference(_identity_in(self.data), now)):
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
        """Whether nobody trains here now; changes nothing.

        Raises:
            InUse: another process does.
        """
        if (self.path / "lock").is_file() and not self.finished:
            with self.held():
                pass

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from training here meanwhile; a process that ends lets go, however it ends.

        Raises:
            InUse: another process trains here.
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
                    f"run_dir={self.path} is in use: another process trains there; wait for it, or name another run_dir"
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


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """How data differ from those of before, the first difference in words; None where they are the same."""
    if before["classes"] != now["classes"]:
        return f"the classes were {listed(before['classes'])} and are {listed(now['classes'])}"
    for name in {**before["splits"], **now["splits"]}:
        then, today = before["splits"].get(name), now["splits"].get(name)
        if then is None or today is None:
            return f"there {'was no' if then is None else 'is no more'} {name}"
        if then["examples"] != today["examples"]:
            return f"{name} had {then['examples']} examples and has {today['examples']}"
        if then != today:
            return f"{name} holds other examples"
    return None


def _identity_in(file: Path) -> dict[str, Any]:
    """What the data were, as far as they are compared."""
    found = kept.read_mapping(file, NO_DATA)
    classes, splits = found.get("classes"), found.get("splits")
    whole = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    whole = whole and isinstance(splits, dict) and all(isinstance(split, dict) for split in splits.values())
    if not whole or not all("examples" in split for split in splits.values()):
        raise kept.damaged(file, "this describes no data", NO_DATA)
    return found


def _values_in(file: Path) -> dict[str, str]:
    """The values of a run's config by path."""
    import yaml

    try:
        found = _flat(kept.read_text(file, NO_CONFIG))
    except (yaml.YAMLError, RecursionError):
        raise kept.damaged(file, "this is no YAML", NO_CONFIG) from None
    if set(found) <= {""}:
        raise kept.damaged(file, "this is no config", NO_CONFIG)
    return found


def _changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """The keys whose values differ and matter, each with both values; the first few of many."""
    keys = [key for key in sorted({*old, *new}) if key not in HARMLESS and not key.startswith(HARMLESS_GROUPS)]
    absent = "not there"
    told = [
        f"{key} was {old.get(key, absent)}, now {new.get(key, absent)}" for key in keys if old.get(key) != new.get(key)
    ]
    return [*told[:CHANGES], *([f"and {len(told) - CHANGES} more"] if len(told) > CHANGES else [])]


def _flat(text: str) -> dict[str, str]:
    import yaml

    def walk(prefix: str, value: object) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from walk(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            yield prefix, str(value)

    return dict(walk("", yaml.load(text, Loader=yaml.BaseLoader)))
