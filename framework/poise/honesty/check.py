"""One check of an evaluation by attack: what was measured, from where on it is a sign, and what to do then."""

from collections.abc import Sequence
from dataclasses import dataclass

from poise.scores import Row, Table

FEWEST = 3  # examples below which a difference may be chance


@dataclass(frozen=True)
class Check:
    """What one check found.

    Args:
        name: such as `transfer`.
        asks: what is measured, in words.
        measured: the larger, the worse; None where the check was not run.
        limit: beyond which it is flagged.
        advice: what to think and to do then, one sentence without its full stop.
        why: it was not run.
    """

    name: str
    asks: str
    measured: float | None
    limit: float
    advice: str
    why: str = ""

    @property
    def flagged(self) -> bool:
        """Whether what was measured is a sign that robustness is overrated."""
        return self.measured is not None and not self.measured <= self.limit  # nan is one

    @property
    def verdict(self) -> str:
        """`passed`, `flagged`, or why it was not run."""
        if self.measured is None:
            return f"not run: {self.why}"
        return "FLAGGED" if self.flagged else "passed"

    def warning(self) -> str:
        """What to say of a check that is flagged."""
        return f"{self.name} ({self.asks}: {_shown(self.measured)}, over {_shown(self.limit)}); {self.advice}"


def share_limit(limit: float, examples: int) -> float:
    """A limit on a share of examples that a handful of them does not reach."""
    return max(limit, FEWEST / max(examples, 1))


def table(title: str, checks: Sequence[Check], examples: int) -> Table:
    """A line for each check."""
    rows = (Row(f"{c.name}: {c.asks}", (_shown(c.measured), _shown(c.limit), c.verdict)) for c in checks)
    flagged = sum(check.flagged for check in checks)
    told = f"{flagged} of {len(checks)} flagged" if flagged else "none is flagged"
    note = f"on {examples:,} examples: {told}"
    return Table(title, ("check", "measured", "flagged over", "verdict"), tuple(rows), note)


def _shown(share: float | None) -> str:
    """A share in per cent; what is smaller than any share of examples, as it is."""
    if share is None:
        return ""
    return f"{share:.0e}" if 0 < abs(share) < 5e-4 else f"{100 * share:z.1f} %"
