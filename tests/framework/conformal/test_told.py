import torch

from poise.conformal.measures import Measured
from poise.conformal.told import Told, metrics, sizes, table

SETS = Measured.of(
    torch.tensor([[True, False], [True, True], [False, True], [False, False]]), torch.tensor([0, 1, 0, 1])
)
TOLD = [Told("test", "", "lac", SETS), Told("test/scaled", "scaled", "lac", SETS)]


def test_metrics_are_named_by_column_inputs_and_rule() -> None:
    clean, attacked = (metrics(TOLD, inputs, 0.1) for inputs in ("", "pgd-20"))
    assert clean["test/conformal/lac/coverage"] == clean["test/scaled/conformal/lac/coverage"] == 0.5
    assert attacked["test/scaled/conformal/pgd-20/lac/mean_size"] == 1.0
    assert not clean.keys() & attacked.keys()


def test_a_line_for_each_rule_and_column() -> None:
    told = table(TOLD, "test under pgd-20", 0.1)
    assert told.title == "test under pgd-20, conformal sets of coverage 90 %"
    assert [row.name for row in told.rows] == ["lac", "lac, scaled"]
    cells = dict(zip(told.headings[1:], told.rows[0].cells, strict=True))
    assert cells == {
        "coverage": "50.0 %",
        "95 % interval": "6.8–93.2",
        "mean size": "1",
        "empty": "25.0 %",
        "single": "50.0 %",
        "full": "25.0 %",
        "worst class": "50.0 %",
        "size gap": "56.7 %",
    }


def test_a_picture_is_of_the_uncalibrated_sets() -> None:
    (one,) = sizes(TOLD)
    assert (one.rule, one.counts, one.coverage) == ("lac", (1, 2, 1), 0.5)
