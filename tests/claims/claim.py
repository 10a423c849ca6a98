"""A claim of a paper, as it is stated before anything is run."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

from claims.judging import RULE
from claims.training import Arm, trained

Numbers = Mapping[str, float]


@dataclass(frozen=True)
class Effect:
    """A difference between arms of one seed that the paper says is positive.

    Args:
        what: in words, with its unit.
        of: from the numbers of each arm to the difference.
        paper: the paper's own by data set; None where it could not be read as a number.
        source: where the paper says so.
    """

    what: str
    of: Callable[[Mapping[str, Numbers]], float]
    paper: Mapping[str, float | None]
    source: str


@dataclass(frozen=True)
class Claim:
    """What a paper says, and how it is looked for.

    Args:
        name: of the program and of its results.
        says: the claim, in one sentence.
        settings: on which data, and how large; all arms train in each.
        arms: what is compared, with the same data and seed.
        measure: the numbers of one trained arm.
        effects: what is judged.
        minutes: of all of it, on one idle core.
        seeds: 0, 1 … of data, weights and draws; one more for each arm's numbers.
        run: what comes of a setting, an arm and a seed; training, where nothing else is said.
        beside: an arm that all others are compared with, number by number, where each is better the lower it is.
    """

    name: str
    says: str
    settings: tuple[Any, ...]
    arms: tuple[Arm, ...]
    measure: Callable[[Any], dict[str, float]]
    effects: tuple[Effect, ...]
    minutes: int
    seeds: int = 3
    run: Callable[[Any, Arm, int], AbstractContextManager[Any]] = trained
    beside: str | None = None
    rule: str = field(default=RULE, init=False)

    def stated(self) -> dict[str, Any]:
        """All that is said before it runs, as JSON has it."""
        return {
            "name": self.name,
            "says": self.says,
            "settings": [asdict(setting) for setting in self.settings],
            "arms": [asdict(arm) for arm in self.arms],
            "measure": " ".join((self.measure.__doc__ or "").split()),
            "effects": [
                {"what": effect.what, "paper": dict(effect.paper), "source": effect.source} for effect in self.effects
            ],
            "minutes": self.minutes,
            "seeds": self.seeds,
            "rule": self.rule,
        } | ({} if self.beside is None else {"beside": self.beside})
