"""The run in MLflow that stands for a sweep, and below which those of the sweep are shown."""

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from poise.secrets import redact
from poise.sweep import Sweep
from poise.tracking import facts
from poise.tracking.server import Server


class Child(Server):
    """A run of a sweep. Whichever opens the server first makes the sweep's, if who submitted could not.

    Args:
        sweep: that the run belongs to.
        uri: as of Server, and so all that follows.
        experiment: that both runs go into.
        key: of this run.
        run_id: of this run.
        name: of this run.
        started: of this run.
    """

    def __init__(
        self, sweep: Sweep, uri: str, experiment: str, key: str, run_id: str | None, name: str, started: int
    ) -> None:
        self.sweep, self.parent = sweep, opened(sweep, uri, experiment)
        super().__init__(uri, experiment, key, run_id, name, started, self.parent.run_id)

    def mark(self, status: str, time: int) -> None:
        """Say what has become of the run. The first that fails fails the sweep, and the last to finish finishes it."""
        super().mark(status, time)
        if status == "FAILED" or (status == "FINISHED" and self.sweep.finished):
            self.parent.mark(status, time)


def opened(sweep: Sweep, uri: str, experiment: str) -> Server:
    """The sweep's run, found by its key or made.

    Raises:
        Exception: as of Server.
    """
    with _alone(sweep.path):
        found = Server(uri, experiment, sweep.key, None, sweep.path.resolve().name, sweep.started)
        found.describe(_parameters(sweep), _tags(sweep))
    return found


def values_as_tags(values: Mapping[str, str]) -> dict[str, str]:
    """What a run has of the axes: by these runs are sorted and grouped."""
    return {facts.name_of(path): redact(value)[: facts.TAG_LENGTH] for path, value in values.items()}


def _parameters(sweep: Sweep) -> dict[str, str]:
    told = {facts.name_of(path): redact("  ".join(values)) for path, values in sweep.axes.items()}
    return {path: text[: facts.PARAMETER_LENGTH] for path, text in told.items()}


def _tags(sweep: Sweep) -> dict[str, str]:
    axes = " × ".join(f"{len(values)} {path}" for path, values in sweep.axes.items())
    return {
        "sweep": redact(axes)[: facts.TAG_LENGTH],
        "runs": str(len(sweep.runs)),
        "mlflow.source.name": "poise",
        "mlflow.source.type": "LOCAL",
        facts.DESCRIPTION: facts.description("\n".join(sweep.runs)),
    }


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time look for the run and make it: a server would keep two of one key."""
    with (folder / "lock").open("a") as lock:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
