import pytest

from poise.errors import UserError, nearest, nearest_path, one


def test_nearest_names_the_word_that_was_meant() -> None:
    assert nearest("tardes", ["mart", "trades"]) == " Did you mean 'trades'?"
    assert nearest("TRADES", ["mart", "trades"]) == " Did you mean 'trades'?"
    assert nearest("linf", iter(["Linf"])) == " Did you mean 'Linf'?"


def test_nearest_is_silent_when_nothing_is_near() -> None:
    assert nearest("zzz", ["mart", "trades"]) == ""
    assert nearest("zzz", []) == ""


def test_a_path_is_near_by_its_last_part() -> None:
    known = ["trainer.block", "trainer.max_epochs"]
    assert nearest_path("trainr.max_epoch", known) == " Did you mean 'trainer.max_epochs'?"
    assert nearest_path("trainer.foo", known) == ""


def test_a_noun_has_its_article() -> None:
    assert [one("recipe"), one("int"), one("Evaluator"), one("data")] == ["a recipe", "an int", "an Evaluator", "data"]


def test_a_user_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="eps"):
        raise UserError("eps")
