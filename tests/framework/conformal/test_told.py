import torch

from poise.conformal.measures import Measured
from poise.conformal.told import AS_THEY_ARE, Inputs, Told, metrics, shift_tables, sizes, tables

FOUR = torch.tensor([[True, False], [True, True], [False, True], [False, False]])
SETS = Measured.of(FOUR.repeat(5, 1), torch.tensor([0, 1, 0, 1] * 5))
PGD = Inputs("pgd-20", {"eps_l2": 0.5, "steps": 20.0}, "PGD of 20 steps, l2, eps = 0.5")
TOLD = [Told("test", "", "lac", SETS), Told("test/scaled", "scaled", "lac", SETS)]


def test_metrics_are_named_by_column_inputs_and_rule() -> None:
    clean, attacked = (metrics(TOLD, "test", inputs, 0.1) for inputs in (AS_THEY_ARE, PGD))
    assert clean["test/conformal/lac/coverage"] == clean["test/scaled/conformal/lac/coverage"] == 0.5
    assert attacked["test/scaled/conformal/pgd-20/lac/mean_size"] == 1.0
    assert not clean.keys() & attacked.keys()


def test_what_the_attack_was_stands_beside_what_it_left() -> None:
    attacked = metrics(TOLD, "test", PGD, 0.1)
    assert attacked["test/conformal/pgd-20/eps_l2"] == 0.5
    assert attacked["test/conformal/pgd-20/steps"] == 20
    for shown in tables(TOLD, "test", PGD, 0.1).values():
        assert shown.note.endswith("; pgd-20: PGD of 20 steps, l2, eps = 0.5")
    assert "pgd" not in tables(TOLD, "test", AS_THEY_ARE, 0.1)["test-conformal"].note


def test_a_table_for_each_column_and_a_line_for_each_rule() -> None:
    told = tables(TOLD, "test", PGD, 0.1)
    assert list(told) == ["test-conformal-pgd-20", "test-conformal-pgd-20-scaled"]
    plain, scaled = told.values()
    assert plain.title == "test under pgd-20, conformal sets of coverage 90 %"
    assert scaled.title == "test under pgd-20, conformal sets of coverage 90 %, scaled"
    (row,) = plain.rows
    assert row.name == "lac"
    assert dict(zip(plain.headings[1:], row.cells, strict=True)) == {
        "coverage": "50.0 % (27.2–72.8)",
        "size": "1",
        "empty/one/all": "25/50/25 %",
        "class": "50.0 %",
        "gap by size": "56.7 %",
    }


def test_a_group_has_a_heading_where_there_is_one() -> None:
    grouped = Measured.of(FOUR, torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1]))
    (told,) = tables([Told("test", "", "lac", grouped)], "test", AS_THEY_ARE, 0.1).values()
    assert dict(zip(told.headings, ("lac", *told.rows[0].cells), strict=True))["group"] == "0.0 %"
    assert "gap by size" not in told.headings


def test_shifts_have_a_line_each() -> None:
    told = shift_tables({"fog": TOLD, "snow": TOLD}, 0.1)
    assert list(told) == ["shifts-conformal", "shifts-conformal-scaled"]
    assert told["shifts-conformal"].headings == ("shifts", "lac")
    assert [(row.name, row.cells) for row in told["shifts-conformal"].rows] == [
        ("fog", ("50.0 %, 1",)),
        ("snow", ("50.0 %, 1",)),
    ]
    assert shift_tables({}, 0.1) == {}


def test_a_picture_is_of_the_uncalibrated_sets() -> None:
    (one,) = sizes(TOLD)
    assert (one.rule, one.counts, one.coverage) == ("lac", (5, 10, 5), 0.5)
