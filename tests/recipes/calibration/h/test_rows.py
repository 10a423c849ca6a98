import math

import pytest
import torch

from held_out import calibrated_logits
from poise_recipes.calibration.h import rows
from poise_recipes.calibration.h.rows import Rows


@pytest.mark.parametrize("block", [1, 12, 2**18])
def test_blocks_hold_all_rows_in_order(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "BLOCK", block)
    made = calibrated_logits(10, 4)
    found = Rows.of(made.logits, made.label, temperature=2.0)
    assert len(found.log_p) == max(1, -(-10 // max(1, block // 4)))
    torch.testing.assert_close(torch.cat([*found.log_p], 1).t(), (made.logits / 2).log_softmax(-1).float())
    assert torch.equal(torch.cat([*found.label]), made.label)
    blocks = found.blocks(found.occurred.float())
    assert torch.equal(torch.cat(blocks, 1).argmax(0), made.label)
    assert torch.equal(torch.cat(blocks, 1).sum(0), torch.ones(10))


def test_events_of_masked_classes_are_not_possible() -> None:
    logits = torch.tensor([[0.0, -math.inf, 1.0], [0.0, 1.0, -math.inf]])
    found = Rows.of(logits, torch.tensor([2, 1]), temperature=1.0)
    assert found.possible.tolist() == [0, 1, 3, 4]  # type: ignore[union-attr]
    assert found.occurred.tolist() == [False, False, True, True]
    assert found.log_p[0].isfinite().all()
