"""The one thread that speaks with MLflow: it sends what the spool holds, waits while it cannot, and never raises."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import groupby
from pathlib import Path

from poise.secrets import redact
from poise.tracking.model import WEIGHTS
from poise.tracking.notices import warn
from poise.tracking.records import Record, kind_of
from poise.tracking.server import Server, upload_seconds
from poise.tracking.spool import Spool

log = logging.getLogger("poise")

INTERVAL = 5.0  # seconds between two looks at the spool
PATIENCE, IMPATIENCE = 30.0, 10.0  # seconds without progress after which an ending run waits no more
SLOWEST = 30.0  # seconds between two attempts
ATTEMPTS = 3  # to store what is no number
NOWHERE = -1  # records delivered, before a server has answered


class Writer:
    """Sends a spool.

    Args:
        spool: of the run.
        connect: opens the server and the run.
        describe: gives the parameters and tags of a new run, and may put artifacts into the spool; called once a run.
        shown: the server's address as people may read it.
    """

    def __init__(
        self,
        spool: Spool,
        connect: Callable[[], Server],
        describe: Callable[[], tuple[dict[str, str], dict[str, str]]],
        shown: str,
    ) -> None:
        self.spool, self.connect, self.describe, self.shown = spool, connect, describe, shown
        self.error: str | None = None  # of the last attempt
        self._server: Server | None = None
        self._attempts = 0  # failed, in a row
        self._refused: Counter[str] = Counter()
        self._stores = True  # as far as is known: where one file is left out, others are tried once
        self._told = False
        self._description: tuple[dict[str, str], dict[str, str]] | None = None
        self._reached = NOWHERE  # records of the next chunk that were delivered at best; none counts as progress twice
        self._progress = time.monotonic()  # when there was some, or until when an upload may take
        self._ending, self._given_up = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="poise-tracking", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def finish(self) -> bool:
        """Wait until all is sent, for as long as there is progress; whether all is."""
        self._progress = max(self._progress, time.monotonic())
        self._ending.set()
        patience = IMPATIENCE if self.error else PATIENCE
        while self._thread.is_alive() and time.monotonic() - self._progress < patience:
            self._thread.join(0.1)
        self._given_up.set()
        return not self._thread.is_alive() and self.spool.unsent == 0

    def send(self) -> bool:
        """Send all in this thread, for a run that is over; whether all is sent. What fails is tried a few times."""
        self._ending.set()
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(self._pause())
            if self._sent():
                return True
        return False

    def _run(self) -> None:
        while not self._given_up.is_set():
            ending = self._ending.is_set()
            if self._sent() and ending:
                return
            # that the run ends cuts a rest short, and of an ending run, that nobody waits any more
            (self._given_up if ending else self._ending).wait(self._pause())

    def _sent(self) -> bool:
        """Try to send all; whether it is sent."""
        try:
            self._send()
        except Exception as error:
            self._server = None
            self._progress = min(self._progress, time.monotonic())
            self._fail(" ".join(f"{type(error).__name__}: {error}".split()))
            return False
        self._recover()
        return True

    def _send(self) -> None:
        server = self._server or self._open()
        self._server = server
        if not self.spool.state.described:
            self._description = self._description or self.describe()
            server.describe(*self._description)
            self.spool.state.described = True
            self.spool.save()
        while not self._given_up.is_set():
            records, end = self.spool.chunk()
            if end == self.spool.state.sent:
                break
            self._deliver(server, records)
            self.spool.cross_off(records, end)
            self._reached, self._progress = NOWHERE, time.monotonic()
        self.spool.compact(*([0] if self._ending.is_set() else []))

    def _open(self) -> Server:
        server = self.connect()
        state = self.spool.state
        if server.run_id != state.run_id:
            state.run_id, state.described, self._description = server.run_id, False, None
            self.spool.save()
        self._reach(0)
        return server

    def _reach(self, delivered: int) -> None:
        """Note progress: a server that takes the same again and again, and never what comes next, makes none."""
        if delivered > self._reached:
            self._reached, self._progress = delivered, time.monotonic()

    def _deliver(self, server: Server, records: list[Record]) -> None:
        delivered = 0
        for kind, group in groupby(records, kind_of):
            some = list(group)
            if kind == "metrics":
                server.metrics(some)
                delivered += len(some)
                self._reach(delivered)
                continue
            for record in some:
                self._deliver_one(server, kind, record)
                delivered += 1
                self._reach(delivered)

    def _deliver_one(self, server: Server, kind: str, record: Record) -> None:
        match kind:
            case "tags":
                server.describe({}, record["tags"])
            case "status":
                server.mark(record["status"], record["time"])
            case "artifact":
                self._deliver_artifact(server, record)
            case "model":
                self._deliver_model(server, record)
            case "values":
                send = partial(server.values, record["values"], record["time"], record["dataset"])
                self._store(server, "model's part of the report", send)
            case "inputs":
                self._store(server, "list of data", partial(server.inputs, record["inputs"]))

    def _deliver_artifact(self, server: Server, record: Record) -> None:
        name = record["artifact"]
        path = self.spool.path_of(record["file"]) if "file" in record else self.spool.artifacts / name
        self._store(server, f"artifact {name}", partial(server.artifact, path, name.rpartition("/")[0]), path)

    def _deliver_model(self, server: Server, record: Record) -> None:
        predictor = self.spool.path_of(record["model"])
        self._store(server, "model", partial(server.model, predictor, self.spool.folder), predictor / WEIGHTS)

    def _store(self, server: Server, what: str, send: Callable[[], None], upload: Path | None = None) -> None:
        """Send it. What cannot be stored, while numbers can, does not hold up what comes after it."""
        try:
            if upload is not None and self._refused[what] < ATTEMPTS:
                self._progress = time.monotonic() + upload_seconds(upload)
            send()
            self._stores = True
        except Exception as error:
            self._refused[what] += 1
            more = self._refused[what] < ATTEMPTS and self._stores
            if more or not server.is_alive(server.run_id):
                raise
            self._stores = False
            log.warning("tracking: the %s cannot be stored and is left out: %s", what, error)

    def _fail(self, error: str) -> None:
        self._attempts += 1
        self.error = redact(error)
        if self._attempts == 2:  # once may be a database that another run has locked
            self._told = True
            warn(f"Tracking at {self.shown} fails and is tried again: {_shortened(self.error)}")

    def _recover(self) -> None:
        self._attempts, self.error = 0, None
        if self._told:
            self._told = False
            warn(f"Tracking at {self.shown} works again.")

    def _pause(self) -> float:
        if not self._attempts:
            return INTERVAL
        return min(2.0 ** (self._attempts - 1), 2.0 if self._ending.is_set() else SLOWEST)


def _shortened(text: str, length: int = 300) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
