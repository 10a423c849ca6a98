"""One process at a time tracks a run."""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from poise.tracking.notices import warn

log = logging.getLogger("poise")


@contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Whether this process holds a folder's lock meanwhile; ends with the process, however that ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("a")
    except OSError as error:
        warn(f"Tracking failed: {folder} cannot be written: {error.strerror}")
        yield False
        return
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of the process, not inherited by those it forks
        except BlockingIOError:
            warn(f"Tracking is left to the process that tracks {folder} already.")
            yield False
            return
        except OSError as error:  # a file system without locks
            log.info("tracking goes on without a lock: %s", error)
        yield True
