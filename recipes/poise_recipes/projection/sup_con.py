"""Supervised contrastive learning."""

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from jaxtyping import Float, Int
from torch import Tensor, nn

from poise.batch import Batch, Outcome
from poise.models.classifier import Classifier, Output
from poise.recipe import Passes, Recipe, Task
from poise.step import Step


class SupCon(Recipe):
    """Pull together what shares a class: a contrast of projected features over two views and all ranks.

    Each row of x [B, *input] and of its further augmented view is an anchor; every other one, on any rank, is a key.
    The loss [B] is the mean of a row's two anchors' contrast, plus the label loss of the head on detached features
    [B, D]: the contrast alone trains the features, the labels the head. Keys are positives by the product of their
    targets [B, C], so of mixed rows in part. Where nothing augments (augment=none, data that are no pictures), both
    views are the same input: a pair that is equal from the start, for the price of a second pass.

    Source: Khosla et al., Supervised Contrastive Learning, 2020, arXiv 2004.11362, equation 2. Departures from the
    authors' code: the head is trained along with the features, not in a second run on frozen ones; the loss is that
    of the equation, without their factor τ/0.07; the views go through the network one after the other, each with
    batch norm's statistics of its own. Default τ = 0.1 is that of the paper and of their commands for CIFAR; their
    function's own is 0.07.

    Args:
        temperature: τ.
        width: of the projection Linear(D, D), ReLU, Linear(D, width).
    """

    paper = "Khosla et al., Supervised Contrastive Learning, 2020, arXiv 2004.11362"
    provides: ClassVar[frozenset[str]] = frozenset({"clean", "views"})
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    couples_batch: ClassVar[bool] = True
    collectives: ClassVar[int] = 2  # a gather, and the sum in its backward
    projection: nn.Module

    def __init__(self, temperature: Annotated[float, Gt(0)] = 0.1, width: Annotated[int, Ge(1)] = 128) -> None:
        super().__init__()
        self.temperature = temperature
        self.width = width

    def passes(self) -> Passes:
        """The second view."""
        return Passes(forwards=1, full_backwards=1)

    def setup(self, task: Task, model: Classifier) -> None:
        """The projection."""
        features = model.feature_width
        self.projection = nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, self.width))

    def mix(self, batch: Batch, step: Step) -> Batch:
        """The batch with one more view."""
        return batch.replace(views=(*batch.views, step.view(batch, "view"))).note(self, len(batch.views))

    def objective(self, batch: Batch, step: Step) -> Outcome:
        """The loss [B], and its two terms for the log."""
        clean, view = step.forward(batch.x, batch), step.forward(batch.views[batch.noted(self)], batch)
        contrast = self._contrast(self._embedded(clean), self._embedded(view), batch.target, step)
        label_loss = step.loss(_precise(step.model.head(_features(clean).detach())), batch)
        terms = {"contrast": contrast, "label_loss": label_loss}
        return Outcome(contrast + label_loss, clean=clean, terms=terms)

    def _embedded(self, output: Output) -> Tensor:
        """Projected features [B, width] on the unit sphere."""
        return F.normalize(_precise(self.projection(_features(output))), dim=1)

    def _contrast(self, first: Tensor, second: Tensor, target: Tensor, step: Step) -> Tensor:
        """The mean of each row's two anchors' contrast [B] with the keys of all ranks."""
        target = target.to(first.dtype)
        gathered = step.ranks.gather(torch.cat([first, second, target], 1))
        first_keys, second_keys, key_target = gathered.split([self.width, self.width, target.shape[1]], 1)
        itself = torch.arange(len(target), device=target.device) + step.ranks.rank * len(target)
        contrast = supervised_contrast(
            torch.cat([first, second]),
            target.repeat(2, 1),
            torch.cat([first_keys, second_keys]),
            key_target.repeat(2, 1),
            torch.cat([itself, itself + len(gathered)]),
            self.temperature,
        )
        return contrast.view(2, -1).mean(0)


def supervised_contrast(
    anchors: Float[Tensor, "A width"],
    anchor_target: Float[Tensor, "A C"],
    keys: Float[Tensor, "K width"],
    key_target: Float[Tensor, "K C"],
    itself: Int[Tensor, " A"],
    temperature: float,
) -> Float[Tensor, " A"]:
    """Each anchor's mean of -log softmax(anchor·keys/τ) over its positive keys [A]; 0 for one without positives.

    Args:
        anchors: on the unit sphere.
        anchor_target: distributions over the classes.
        keys: on the unit sphere.
        key_target: distributions over the classes; a key is positive by the product of its and the anchor's.
        itself: which key each anchor is; that one is left out.
        temperature: τ.
    """
    own = itself[:, None]
    with torch.autocast(anchors.device.type, enabled=False):
        similarity = anchors @ keys.T / temperature
        positive = (anchor_target @ key_target.T).scatter(1, own, 0.0)
    log_p = similarity.scatter(1, own, -torch.inf).log_softmax(1).scatter(1, own, 0.0)
    return -(positive * log_p).sum(1) / positive.sum(1).clamp(min=torch.finfo(positive.dtype).tiny)


def _precise(value: Tensor) -> Tensor:
    """In float32 or better, whatever the precision of the passes: τ = 0.1 makes ten times of a rounding."""
    return value.to(torch.promote_types(value.dtype, torch.float32))


def _features(output: Output) -> Tensor:
    if output.features is None:
        raise ValueError("the model gives no features")
    return output.features
