"""The table of intervals: numbers are those of the resamples, a line for each score and column."""

import torch

from poise.intervals import interval_table
from poise.metrics.counted import resampled_summaries

GENERATOR = torch.Generator().manual_seed(0)
HONEST = 2 * torch.randn(300, 3, generator=GENERATOR, dtype=torch.float64)
LABEL = torch.multinomial(HONEST.softmax(1), 1, generator=GENERATOR)[:, 0]
COLUMNS = {"uncalibrated": 2 * HONEST, "scaled": HONEST}


def test_a_line_for_each_score_and_column() -> None:
    table = interval_table("with intervals", COLUMNS, LABEL, torch.arange(300), bins=5, resamples=50, seed=3)
    found = resampled_summaries(COLUMNS, LABEL, torch.arange(300), 5, 50, 3)
    rows = {row.name: row.cells for row in table.rows}
    assert len(rows) == 2 * len(found["uncalibrated"]) - 1  # scaled logits predict the same
    assert "accuracy, uncalibrated" in rows
    assert "accuracy, scaled" not in rows
    own, change = found["scaled"]["nll"], found["scaled"]["nll"] - found["uncalibrated"]["nll"]
    assert rows["nll, scaled"][0] == f"{own.estimate:.4f}"
    assert rows["nll, scaled"][1] == f"{own.interval().low:.4f} … {own.interval().high:.4f}"
    assert rows["nll, scaled"][2] == f"{change.estimate:+.4f}"
    assert rows["nll, scaled"][3] == f"{change.interval().low:+.4f} … {change.interval().high:+.4f}"
    assert rows["ece, uncalibrated"][2:] == ("", "")
    assert change.interval().high < 0


def test_changes_that_may_be_none_are_marked() -> None:
    noise = 0.05 * torch.randn(300, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    columns = {"uncalibrated": HONEST, "noisy": HONEST + noise, "cold": 3 * HONEST}
    rows = {row.name: row.cells for row in interval_table("", columns, LABEL, torch.arange(300), resamples=200).rows}
    assert [rows[f"nll, {name}"][2].endswith(" ?") for name in columns] == [False, True, False]
