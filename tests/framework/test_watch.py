import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.distributed import Ranks
from poise.watch import FiniteWatch, NonFiniteLoss


class OtherRankWasFirst(Ranks):
    """Two ranks, the other of which saw a bad loss at step 2."""

    size = 2

    def max(self, value: torch.Tensor) -> torch.Tensor:
        return torch.maximum(value, torch.tensor(-2.0, dtype=value.dtype))


def noted(watch: FiniteWatch, losses: list[float], start: int = 0) -> None:
    for step, loss in enumerate(losses, start):
        terms = {"kl": torch.tensor(10.0 + step), "label_loss": torch.tensor(loss)}
        watch.note(step, torch.tensor(loss), terms)


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 30),
    st.sampled_from([float("nan"), float("inf"), -float("inf")]),
    st.lists(st.sampled_from([0.5, float("nan")]), max_size=10),
)
def test_the_first_bad_step_is_named_with_its_own_terms(good: int, bad: float, later: list[float]) -> None:
    watch = FiniteWatch()
    noted(watch, [1.0] * good + [bad, *later])
    with pytest.raises(NonFiniteLoss) as caught:
        watch.look(Ranks())
    assert f"the loss of step {good} is not finite (kl={10 + good:.4g}, label_loss={bad:.4g})" in str(caught.value)
    assert "optimizer.lr" in str(caught.value)


def test_a_bad_step_is_found_however_late_one_looks_and_however_large_its_number() -> None:
    watch, late = FiniteWatch(), 2**24 + 1  # float32 cannot tell it from its neighbour
    noted(watch, [1.0, 1.0])
    watch.look(Ranks())
    noted(watch, [1.0, float("nan")], start=late - 1)
    with pytest.raises(NonFiniteLoss, match=f"step {late} is"):
        watch.look(Ranks())


def test_good_losses_pass_and_are_looked_at_every_few_steps() -> None:
    watch = FiniteWatch(every=4)
    watch.look(Ranks())
    for step in range(12):
        noted(watch, [0.1], start=step)
        assert watch.due(step) == (step in (3, 7, 11))
        if watch.due(step):
            watch.look(Ranks())


def test_steps_with_other_terms_keep_their_own() -> None:
    watch = FiniteWatch()
    watch.note(0, torch.tensor(1.0), {"a": torch.tensor(1.0)})
    watch.note(1, torch.tensor(float("nan")), {"b": torch.tensor(float("nan"))})
    watch.note(2, torch.tensor(1.0), {})
    with pytest.raises(NonFiniteLoss, match=r"step 1 is not finite \(b=nan\)"):
        watch.look(Ranks())


def test_every_rank_raises_for_the_first_bad_step_of_any() -> None:
    watch = FiniteWatch()
    noted(watch, [1.0, 1.0, 1.0])
    with pytest.raises(NonFiniteLoss, match="the loss of step 2 is not finite; try"):
        watch.look(OtherRankWasFirst())
    watch = FiniteWatch()
    noted(watch, [1.0, float("nan")])
    with pytest.raises(NonFiniteLoss, match=r"step 1 is not finite \(kl=11"):
        watch.look(OtherRankWasFirst())
