"""How often ranks meet in a step of a run: counted where PyTorch makes the collectives, whoever asks for them."""

from pathlib import Path

import pytest
from torch.profiler import ProfilerActivity, profile

from poise import registry
from poise.batch import Batch
from poise.models.classifier import Classifier
from poise.notes import TOGETHER
from poise.recipe import Recipe, Task
from poise.step import Step
from ranks import Pair
from small_runs import small_fit

LOGGED = 9  # a step whose values are logged, every ten steps


class Counts(Recipe):
    """Counts the collectives from the end of each step to that of the next."""

    def setup(self, task: Task, model: Classifier) -> None:
        self.counts: dict[int, int] = {}
        self.profile: profile | None = None

    def on_step_end(self, batch: Batch, step: Step) -> None:
        if self.profile is not None:
            self.profile.stop()
            self.counts[step.global_step] = sum(e.name.startswith("c10d::") for e in self.profile.events() or ())
        self.profile = profile(activities=[ProfilerActivity.CPU]) if 2 <= step.global_step < 14 else None
        if self.profile is not None:
            self.profile.start()


class Talks(Recipe):
    """Notes more values than travel together."""

    def on_step_end(self, batch: Batch, step: Step) -> None:
        for number in range(TOGETHER):
            step.log(f"talk/{number}", float(number))


def counted(folder: str, names: list[str], *others: type[Recipe]) -> dict[int, int]:
    """In a rank process: collectives of each step but the first few, where DDP settles, and the epoch's last."""
    counts = Counts()
    recipes = [*(registry.build("recipe", name) for name in names), *(other() for other in others), counts]
    small_fit(folder, recipes, trainer={"devices": 2, "max_epochs": 1, "batch_size": 4, "block": 2})
    return counts.counts


@pytest.mark.parametrize(("names", "others", "declared", "logged"), [([], [], 0, 1), (["group_dro"], [Talks], 2, 2)])
def test_ranks_meet_for_gradients_for_what_recipes_declare_and_for_the_log(
    pair: Pair, tmp_path: Path, names: list[str], others: list[type[Recipe]], declared: int, logged: int
) -> None:
    first, second = pair.run(counted, str(tmp_path / "run"), names, *others)
    assert first == second
    usual = 1 + declared  # one bucket of gradients
    further = {step: count - usual for step, count in first.items() if count != usual}
    assert set(first) == set(range(3, 15))
    assert logged <= further.pop(LOGGED) <= logged + 1  # every few seconds ranks ask whether one has to stop
    assert sum(further.values()) <= 2
