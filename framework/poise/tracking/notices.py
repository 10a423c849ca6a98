"""What the tracker has to say: to the log, and to the person who started the run."""

import logging

from poise.secrets import redact

log = logging.getLogger("poise")


def warn(text: str) -> None:
    """Say what goes wrong meanwhile."""
    log.warning("%s", redact(text))
