"""What the tracker has to say: to the log, and to the person who started the run."""

import logging
import sys

from poise.secrets import redact

log = logging.getLogger("poise")


def warn(text: str) -> None:
    """Say what goes wrong meanwhile."""
    shown = redact(text)
    if log.hasHandlers():  # else logging writes to the terminal as well
        log.warning(shown)
    sys.stderr.write(f"{shown}\n")
