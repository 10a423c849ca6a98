"""All mistakes of a config, together."""

from collections.abc import Sequence

from poise.errors import UserError
from poise.secrets import redact


class ConfigErrors(UserError):
    """What is wrong with a config.

    Args:
        mistakes: one line each; secrets in them are not repeated.
    """

    def __init__(self, mistakes: Sequence[str]) -> None:
        self.mistakes = tuple(redact(" ".join(mistake.split())) for mistake in mistakes)
        super().__init__("\n".join(self.mistakes))
