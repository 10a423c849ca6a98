import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poise.attacks.margins import dlr, targeted_dlr
from poise.errors import UserError

LOGITS = torch.tensor([[4.0, 1.0, 2.0, -2.0, 0.0]], dtype=torch.float64)

at_least_4 = st.lists(st.integers(-50, 50), min_size=4, max_size=8, unique=True)


@pytest.mark.parametrize(
    ("y", "expected"),
    [(0, -(4 - 2) / (4 - 1)), (1, -(1 - 4) / (4 - 1)), (2, -(2 - 4) / (4 - 1)), (3, -(-2 - 4) / (4 - 1))],
)
def test_dlr_is_the_margin_over_the_first_less_the_third(y: int, expected: float) -> None:
    assert dlr(LOGITS, torch.tensor([y])).item() == pytest.approx(expected)


def test_targeted_dlr_is_the_lead_of_the_label_over_the_first_less_the_mean_of_third_and_fourth() -> None:
    found = targeted_dlr(LOGITS, torch.tensor([0]), torch.tensor([3]))
    assert found.item() == pytest.approx(-(4 - -2) / (4 - (1 + 0) / 2))


@given(logits=at_least_4, shift=st.floats(-100, 100), scale=st.floats(0.01, 100))
def test_shifted_and_scaled_logits_have_the_same_losses(logits: list[int], shift: float, scale: float) -> None:
    z = torch.tensor([logits], dtype=torch.float64)
    y, target = torch.tensor([0]), torch.tensor([1])
    torch.testing.assert_close(dlr(scale * z + shift, y), dlr(z, y), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(
        targeted_dlr(scale * z + shift, y, target), targeted_dlr(z, y, target), rtol=1e-6, atol=0
    )


@given(logits=at_least_4)
def test_dlr_is_above_zero_where_the_label_is_not_first(logits: list[int]) -> None:
    z = torch.tensor([logits], dtype=torch.float64)
    for y in range(len(logits)):
        assert (dlr(z, torch.tensor([y])) > 0).item() == (z.argmax().item() != y)


def test_logits_that_are_all_the_same_have_a_loss_and_a_gradient() -> None:
    z = torch.zeros(1, 4, requires_grad=True)
    y = torch.tensor([2])
    total = dlr(z, y).sum() + targeted_dlr(z, y, torch.tensor([1])).sum()
    total.backward()
    assert total.item() == 0
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_too_few_classes_are_refused_with_the_way_out() -> None:
    y = torch.tensor([0])
    with pytest.raises(UserError, match=r"DLR loss is defined for 3 classes or more, .* has 2: use .*loss='ce'"):
        dlr(LOGITS[:, :2], y)
    with pytest.raises(UserError, match=r"targeted DLR loss is defined for 4 classes .* has 3: use .*loss='dlr'"):
        targeted_dlr(LOGITS[:, :3], y, y + 1)
