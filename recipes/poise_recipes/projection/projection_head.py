"""Train with a projection head, then discard it."""

import copy
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from jaxtyping import Float, Int
from torch import Tensor, nn

from poise.batch import Predictions
from poise.recipe import Recipe
from poise.step import Step


class ProjectionHead(Recipe):
    """Train the classifier C(g(h)) on features h [B, D] with a projection g; afterwards drop g, refit C on h.

    The linear classifier that ships is refitted on the features of the training split, full batch. Logged on the
    validation split, so that the gain can be seen: accuracy of the training head, and of linear classifiers
    refitted before (on h) and after (on g(h)) the projection.

    Source: Xue et al., Investigating the Benefits of Projection Head for Representation Learning, 2024,
    arXiv 2403.11391, section 3. Departures: the authors published no code; `reweighting` is their fixed diagonal
    head u_i = κ^(-i)·h_i (i from 0) with κ = (m+1)/(m-1), m the number of effective dimensions.

    Args:
        projection: mlp: Linear(D, D), ReLU, Linear(D, width); linear: Linear(D, width); reweighting: fixed, diagonal.
        width: of the projection, in features.
        effective_dimensions: m > 1 of the fixed reweighting.
        l2: ridge penalty of the refitted classifier.
    """

    paper = (
        "Xue et al., Investigating the Benefits of Projection Head for Representation Learning, 2024, arXiv 2403.11391"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"features", "predict"})

    def __init__(
        self,
        projection: Literal["mlp", "linear", "reweighting"] = "mlp",
        width: Annotated[int, Ge(1)] = 128,
        effective_dimensions: Annotated[float, Gt(1)] = 20.0,
        l2: Annotated[float, Ge(0)] = 1e-4,
    ) -> None:
        super().__init__()
        self.projection = projection
        self.width = width
        self.effective_dimensions = effective_dimensions
        self.l2 = l2

    def head(self, in_features: int, num_classes: int) -> nn.Module:
        """The projection and the classifier after it."""
        if self.projection == "reweighting":
            return nn.Sequential(
                Reweighting(in_features, self.effective_dimensions), nn.Linear(in_features, num_classes)
            )
        hidden = [nn.Linear(in_features, in_features), nn.ReLU()] if self.projection == "mlp" else []
        projection = nn.Sequential(*hidden, nn.Linear(in_features, self.width))
        return nn.Sequential(projection, nn.Linear(self.width, num_classes))

    def after_fit(self, step: Step) -> None:
        """Refit a linear classifier before the projection and make it the model's head."""
        train, val = step.predict("train"), step.predict("val")
        with_head = copy.deepcopy(step.model.head).cpu()  # where the features are
        projection = with_head.get_submodule("0")
        before = self._refitted(train, nn.Identity())
        after = self._refitted(train, projection)
        for name, head in (
            ("training_head", with_head),
            ("before_projection", before),
            ("after_projection", after),
        ):
            step.log(f"projection_head/val_accuracy/{name}", _accuracy(head, val))
        example = next(step.model.parameters())
        step.model.head = before.to(device=example.device, dtype=example.dtype)[1]

    def _refitted(self, seen: Predictions, projection: nn.Module) -> nn.Sequential:
        if seen.features is None:
            raise ValueError("the model gives no features")
        with torch.no_grad():
            features = projection(seen.features)
        return nn.Sequential(projection, linear_probe(features, seen.label, seen.logits.shape[1], self.l2))


class Reweighting(nn.Module):
    """u_i = κ^(-i)·h_i over the last axis: fixed, so no weight decay can touch it."""

    scale: Tensor

    def __init__(self, width: int, effective_dimensions: float) -> None:
        super().__init__()
        kappa = (effective_dimensions + 1) / (effective_dimensions - 1)
        self.register_buffer("scale", (kappa ** -torch.arange(width, dtype=torch.float64)).float())

    def forward(self, h: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Features [B, D], reweighted."""
        return h * self.scale.to(h.dtype)


def linear_probe(features: Float[Tensor, "N D"], label: Int[Tensor, " N"], num_classes: int, l2: float) -> nn.Linear:
    """The linear classifier of least cross-entropy plus l2/2·‖W‖², by L-BFGS in float64 from zero."""
    mean, std = features.double().mean(0), features.double().std(0).clamp(min=1e-6)
    scaled = (features.double() - mean) / std
    weight = torch.zeros(num_classes, features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(num_classes, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = F.cross_entropy(F.linear(scaled, weight, bias), label) + l2 / 2 * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        solver.step(loss)
    probe = nn.Linear(features.shape[1], num_classes, dtype=features.dtype)
    with torch.no_grad():
        probe.weight.copy_(weight / std)
        probe.bias.copy_(bias - (weight / std) @ mean)
    return probe


def _accuracy(head: nn.Module, seen: Predictions) -> float:
    with torch.no_grad():
        return float((head(seen.features).argmax(1) == seen.label).double().mean())
