"""What is kept on a machine for the next time, and how processes agree who makes it."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("poise")


def cache_home() -> Path:
    """Where the user keeps what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "poise"


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """One process at a time; the others wait. The lock ends with its process, however that ends."""
    with lock.open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("waiting for another process, which makes what both need (it holds %s)", lock)
            fcntl.lockf(file, fcntl.LOCK_EX)
        except OSError as error:  # a file system without locks
            log.info("going on without a lock: %s", error)
        yield
