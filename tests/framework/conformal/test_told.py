import torch

from poise.conformal.measures import Measured
from poise.conformal.told import AS_THEY_ARE, Inputs, Told, metrics, shift_table, sizes, table

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
    assert table(TOLD, "test", PGD, 0.1, 0.5).note.endswith("; pgd-20: PGD of 20 steps, l2, eps = 0.5")
    assert "pgd" not in table(TOLD, "test", AS_THEY_ARE, 0.1, 0.5).note


def test_a_line_for_each_rule_and_column_those_of_a_rule_together() -> None:
    aps = [Told("test", "", "aps", SETS), Told("test/scaled", "scaled", "aps", SETS)]
    told = table([TOLD[0], aps[0], TOLD[1], aps[1]], "test", PGD, 0.1, 0.5)
    assert told.title == "test under pgd-20, conformal sets made for a coverage of 90 %"
    assert [row.name for row in told.rows] == ["lac", "lac, scaled", "aps", "aps, scaled"]
    assert dict(zip(told.headings[1:], told.rows[0].cells, strict=True)) == {
        "coverage": "50.0 % (27.2–72.8)",
        "size": "1",
        "empty/one/all": "25/50/25 %",
        "class": "50.0 %",
        "gap by size": "56.7 %",
    }


def test_a_group_has_a_heading_where_there_is_one() -> None:
    grouped = Measured.of(FOUR, torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1]))
    told = table([Told("test", "", "lac", grouped)], "test", AS_THEY_ARE, 0.1, 0.5)
    assert dict(zip(told.headings, ("lac", *told.rows[0].cells), strict=True))["group"] == "0.0 %"
    assert "gap by size" not in told.headings


def test_what_is_so_low_that_it_is_no_chance_is_marked() -> None:
    high = SETS.metrics(0.1)["coverage_high"]
    for least, marked in ((high - 0.001, False), (high + 0.001, True)):
        told = table(TOLD[:1], "test", PGD, 0.1, least)
        assert told.rows[0].cells[0].startswith("↓ 50.0 %") == marked
        assert (f"↓: below {100 * least:.1f} %" in told.note) == marked


def test_shifts_have_a_line_each() -> None:
    told = shift_table({"fog": TOLD, "snow": TOLD}, 0.1)
    assert told.headings == ("shifts", "lac")
    assert [row.name for row in told.rows] == ["fog", "fog, scaled", "snow", "snow, scaled"]
    assert {row.cells for row in told.rows} == {("50.0 %, 1",)}


def test_a_picture_is_of_the_uncalibrated_sets() -> None:
    (one,) = sizes(TOLD)
    assert (one.rule, one.counts, one.coverage) == ("lac", (5, 10, 5), 0.5)
