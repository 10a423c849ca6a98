"""Adversarial weight perturbation."""

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar

from annotated_types import Ge, Le
from jaxtyping import Float, Shaped
from torch import Tensor

from poise.recipe import Passes, Recipe
from poise.step import Step


class AWP(Recipe):
    """Take the loss at weights moved a little uphill: v = γ·‖θ‖·g/‖g‖ for each weight tensor θ with gradient g.

    Works on top of any objective, weight and penalty: g is the gradient of the whole loss over the global batch, on
    inputs [B, *input] attacked at the unperturbed weights. Tensors with one axis (biases, norms) are left alone.

    Source: Wu et al., Adversarial Weight Perturbation Helps Robust Generalization, 2020, arXiv 2004.05884,
    equation 10, one ascent step. Departures from the authors' code: the closed form in place of a proxy network's
    optimiser step (the same v); weights are restored before the optimiser's step, not after it, so weight decay is
    taken at θ and not at θ+v; every model parameter with two or more axes is moved, whatever its name; `warmup` is
    a share of the run. With accumulation the change is that of each micro-batch. On MART others' re-runs with a
    WideResNet-34-10 have ended in chance, where the authors report a gain without naming their γ: look early.

    Args:
        gamma: size of the change, relative to the norm of each tensor. 0.005 with TRADES and 0.01 with PGD-AT in
            the authors' scripts.
        warmup: share of the run, in [0, 1], before the first change.
    """

    paper = "Wu et al., Adversarial Weight Perturbation Helps Robust Generalization, 2020, arXiv 2004.05884"
    needs: ClassVar[frozenset[str]] = frozenset({"whole_weights"})
    couples_batch: ClassVar[bool] = True
    collectives: ClassVar[int] = 1

    def __init__(self, gamma: Annotated[float, Ge(0)] = 0.005, warmup: Annotated[float, Ge(0), Le(1)] = 0.0) -> None:
        super().__init__()
        self.gamma = gamma
        self.warmup = warmup

    def passes(self) -> Passes:
        """The whole loss once more, with its gradient."""
        return Passes(loss_evaluations=1)

    def perturb_weights(
        self, gradient: Callable[[], dict[str, Shaped[Tensor, "..."]]], step: Step
    ) -> Mapping[str, Shaped[Tensor, "..."]] | None:
        """V for each weight tensor of the model, by name."""
        if step.progress < self.warmup:
            return None
        weights = dict(step.model.named_parameters())
        return {name: ascent(weights[name].detach(), g, self.gamma) for name, g in gradient().items() if g.ndim > 1}


def ascent(weight: Float[Tensor, "*shape"], gradient: Float[Tensor, "*shape"], gamma: float) -> Float[Tensor, "*shape"]:
    """γ·‖θ‖·g/‖g‖, shaped like the weight tensor; zero where the gradient is."""
    return gamma * weight.norm() / (gradient.norm() + 1e-20) * gradient
