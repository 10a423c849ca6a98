"""`poise sync`: what runs have left that ended before all of it was sent, and how they ended."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from poise.config import Config, from_yaml
from poise.config.commands import Sync
from poise.errors import UserError, nearest
from poise.listing import rendered
from poise.progress import progress_bar, say
from poise.run_directory import InUse, RunDirectory
from poise.secrets import HIDDEN, redact
from poise.tracking import address, lock
from poise.tracking.spool import State, read_state
from poise.tracking.tracker import FOLDER, Tracker, is_sent, quiet

NOT_ENTERED = {"checkpoints", "figures", "logs", "predictor", "tables", FOLDER}  # of a run: no run is in there
REASON = 200  # characters of what a server says
SQLITE = b"SQLite format 3\0"  # with which a database begins that holds anything


@dataclass(frozen=True)
class Outcome:
    """What became of one run: how it ended, what was sent, where to, and what is wrong."""

    run: str
    ended: str = ""
    sent: str = ""
    to: str = ""
    wrong: str = ""


def main(asked: Sync) -> int:
    """Send what is left of the runs in a directory; returns the exit code, 1 where something is not sent.

    Raises:
        UserError: there is no such directory, or no tracked run in it.
    """
    root = Path(asked.run_dir)
    found = list(_tracked_runs(root))
    if not found:
        raise UserError(f"run_dir={root} holds no run that is tracked.")
    waiting = [path for path in found if not _is_done(path / FOLDER, asked.uri)]
    sys.stderr.write(f"{_first_words(root, len(found), len(waiting))}\n")
    if not waiting:
        return 0
    outcomes = []
    with quiet(), progress_bar(shown=len(waiting) > 1)("sending", len(waiting)) as advance:
        senders = _Senders()
        for path in waiting:
            outcomes.append(senders.outcome(path, asked.uri))
            advance(1)
    say(_table(outcomes))
    failed = sum(bool(outcome.wrong) for outcome in outcomes)
    if failed:
        sys.stderr.write(f"Not all of {_runs(failed)} is sent: the same command tries again.\n")
    return 1 if failed else 0


class _Senders:
    """Sends runs one after another; an address that did not answer is not asked again."""

    def __init__(self) -> None:
        self._away: dict[str, str] = {}

    def outcome(self, path: Path, uri: str | None) -> Outcome:
        """What becomes of one run."""
        outcome = Outcome(str(path))
        try:
            with ExitStack() as held:
                held.enter_context(RunDirectory(path).held())
                if not held.enter_context(lock.held(path / FOLDER)):
                    return replace(outcome, ended="in use")
                return self._sent(outcome, RunDirectory(path), uri)
        except InUse:
            return replace(outcome, ended="in use")
        except (UserError, OSError) as error:
            return replace(outcome, wrong=_line(redact(str(error))))
        except Exception as error:  # of a damaged run, or of MLflow: it holds up no other
            return replace(outcome, wrong=_line(redact(f"{type(error).__name__}: {error}")))

    def _sent(self, outcome: Outcome, directory: RunDirectory, uri: str | None) -> Outcome:
        state = read_state(directory.path / FOLDER)
        config = _config(directory.config)
        where = _address(uri, config, state)
        outcome = replace(outcome, to=redact(where))
        self._ask(where)
        tracker = Tracker(replace(config, tracking=replace(config.tracking, uri=where)), directory)
        before = tracker.spool.waiting()
        sent = tracker.wind_up()
        outcome = replace(outcome, ended=str(tracker.spool.status).lower())
        if sent:
            return replace(outcome, sent=_amount(*before))
        reason = tracker.writer.error or "something new came meanwhile"
        return replace(outcome, wrong=f"{tracker.spool.unsent} bytes are left: {_line(reason)}")

    def _ask(self, where: str) -> None:
        """Whether a server answers, once for all runs, or a database can be; nothing is changed for one that does not.

        Raises:
            UserError: it does not, or cannot.
        """
        if address.is_database(where):
            _look_at(address.database(where))
            return
        if where not in self._away:
            self._away[where] = _silence(where)
        if reason := self._away[where]:
            raise UserError(f"no answer: {reason}")


def _look_at(database: Path | None) -> None:
    """Whether there is an SQLite database, or place for one: here none is made in a folder that is mistyped.

    Raises:
        UserError: there is not.
    """
    if database is None:
        return
    if not database.parent.is_dir():
        raise UserError(f"there is no folder {database.parent}: give another address as tracking.uri=…")
    if database.exists() and not _is_sqlite(database):
        raise UserError(f"{database} is no SQLite database: give another address as tracking.uri=…")


def _is_sqlite(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(SQLITE)) in (b"", SQLITE)


def _config(path: Path) -> Config:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path} is damaged: it is no text") from None
    return from_yaml(text, str(path), checks=())


def _silence(where: str) -> str:
    """Why a server does not answer; "" where it does."""
    from poise.tracking.server import client

    try:
        client(where).search_experiments(max_results=1)
    except Exception as error:  # of the network, of whatever stands in between
        return _line(redact(str(error)))
    return ""


def _tracked_runs(root: Path) -> Iterator[Path]:
    """The directories of tracked runs, `root` itself or below it, in order."""
    if not root.is_dir():
        near = [path.name for path in root.parent.iterdir() if path.is_dir()] if root.parent.is_dir() else []
        raise UserError(f"run_dir={root}: there is no such directory.{nearest(root.name, near)}")
    for folder, folders, files in os.walk(root):
        if FOLDER in folders and "config.yaml" in files:
            yield Path(folder)
            folders[:] = [name for name in folders if name not in NOT_ENTERED]
        folders.sort()


def _is_done(folder: Path, uri: str | None) -> bool:
    moves = uri is not None and redact(address.absolute(uri, Path.cwd())) != read_state(folder).uri
    return is_sent(folder) and not moves


def _address(uri: str | None, config: Config, state: State) -> str:
    """Where a run is sent: as asked, else where it was tracked.

    Raises:
        UserError: that is not known any more, or not there.
    """
    own = address.given(config.tracking.uri)
    if uri is None and state.uri is not None:
        if own is not None and redact(address.absolute(own, Path.cwd())) == state.uri:
            return address.absolute(own, Path.cwd())
        if HIDDEN in state.uri:
            raise UserError(f"{state.uri} had a secret in it, which is not kept: give the address as tracking.uri=…")
        database = address.database(state.uri)
        if state.run_id is not None and database is not None and not database.is_file():
            raise UserError(f"there is no database {database} any more: give another address as tracking.uri=…")
        return state.uri
    if (uri or own) is None and state.run_id is not None:
        raise UserError("where it was tracked is damaged in tracking/state.json: give the address as tracking.uri=…")
    return address.absolute(uri or own or address.DEFAULT, Path.cwd())


def _first_words(root: Path, found: int, waiting: int) -> str:
    if not waiting:
        return f"All is sent of {_runs(found)} in {root}"
    return f"{_runs(found)} in {root}, {waiting} with something left to send"


def _table(outcomes: Sequence[Outcome]) -> str:
    columns = {
        "run": [outcome.run for outcome in outcomes],
        "ended": [outcome.ended for outcome in outcomes],
        "sent": [outcome.sent or "not sent" for outcome in outcomes],
        "to": [outcome.to for outcome in outcomes],
        "what is wrong": [outcome.wrong for outcome in outcomes],
    }
    return rendered({title: cells for title, cells in columns.items() if any(cells)})


def _amount(values: int, others: int) -> str:
    return f"{values:,} values, {others} files and facts"


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count != 1)}"


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= REASON else f"{line[: REASON - 1]}…"
