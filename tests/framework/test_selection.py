"""Which metrics may choose the epoch, and what is said of others."""

import pytest

from poise.errors import UserError
from poise.selection import refuse_selection, selections


@pytest.mark.parametrize("attacked", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_what_may_choose_is_taken_and_all_else_refused_with_the_reason(attacked: bool, grouped: bool) -> None:
    choices = selections(attacked, grouped)
    refuse_selection(None, attacked, grouped)
    for chosen in choices:
        refuse_selection(chosen, attacked, grouped)
    for chosen in {*selections(attacked=True, grouped=True)} - {*choices}:
        without_attack = "robust" in chosen and not attacked
        why = "no recipe attacks" if without_attack else "the validation examples have no groups"
        with pytest.raises(UserError) as found:
            refuse_selection(chosen, attacked, grouped)
        assert str(found.value).startswith(
            f"selection={chosen} chooses no epoch here ({why}); it is one of {', '.join(choices)}."
        )


def test_a_misspelt_metric_is_said_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"it is no metric of the validation.*Did you mean 'robust_accuracy'\?"):
        refuse_selection("robust_acuracy", attacked=True, grouped=False)
