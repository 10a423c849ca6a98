"""The search for a map's parameters."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, inf

from poise_recipes.calibration.h.mapping import Mapping
from poise_recipes.calibration.h.objective import h_loss
from poise_recipes.calibration.h.rows import Rows
from poise_recipes.calibration.h.selectors import Selector

SHARE = 20  # a window holds at most one event in so many


@dataclass(frozen=True)
class Descent:
    """Adam on the objective, a step on all rows at a time; the best step by the selector is kept.

    Args:
        selector: judges steps, on the rows themselves.
        window: of the objective, in events.
        tolerance: of the objective.
        steps: at most; the rate falls to 0 along half a cosine.
        patience: steps in a row at which neither the selector nor the objective is less than ever, after which it ends.
    """

    selector: Selector
    window: int
    tolerance: float
    steps: int
    patience: int

    @torch.no_grad()
    def __call__(self, mapping: Mapping, rows: Rows, advance: Callable[[float], None]) -> Float[Tensor, " P"]:
        """The parameters; `advance` is told of the shares of the search that are done, of 1 in all."""
        parameters = mapping.start(rows)
        optimizer = torch.optim.Adam([parameters], lr=mapping.rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        kept, least, least_loss, idle = parameters.clone(), inf, inf, 0
        for left in reversed(range(self.steps)):
            events = torch.cat([mapping.probabilities(log_p, parameters).flatten() for log_p in rows.log_p])
            score = self.selector(rows.blocks(events), rows.label)
            loss, parameters.grad = self._loss(mapping, rows, parameters, events)
            idle = 0 if score < least or loss < least_loss else idle + 1
            if score <= least:
                kept, least = parameters.clone(), score
            least_loss = min(loss, least_loss)
            if idle == self.patience:
                advance((left + 1) / self.steps)
                break
            optimizer.step()
            schedule.step()
            mapping.confine(parameters)
            advance(1 / self.steps)
        return kept

    def _loss(self, mapping: Mapping, rows: Rows, parameters: Tensor, events: Tensor) -> tuple[float, Tensor]:
        """The objective where events have these probabilities, and its slopes along the parameters."""
        window = min(self.window, len(rows.occurred) // SHARE)
        loss, along_possible = h_loss(events[rows.possible], rows.occurred, window, self.tolerance)
        along = torch.zeros_like(events)
        along[rows.possible] = along_possible
        each = zip(rows.log_p, rows.blocks(events), rows.blocks(along), strict=True)
        slopes = [mapping.slopes(log_p, parameters, probability, slope) for log_p, probability, slope in each]
        return float(loss), torch.stack(slopes).sum(0)
