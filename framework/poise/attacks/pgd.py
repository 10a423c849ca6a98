"""Projected gradient ascent on the loss."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from poise.attacks.attack import MEMORY, Attack, agrees, at_least_float32, gradient_of, is_right, own
from poise.attacks.draws import Draws
from poise.attacks.survivors import Found, per_example, worst_of
from poise.attacks.threat import Threat
from poise.errors import UserError
from poise.number_checks import check_counts


def pgd(
    loss: Callable[[Float[Tensor, "B *input"]], Float[Tensor, " B"]],
    x: Float[Tensor, "B *input"],
    start: Float[Tensor, "B *input"],
    threat: Threat,
    steps: int,
    step_size: float,
) -> Float[Tensor, "B *input"]:
    """Inputs inside the threat that `loss` rates high, by projected gradient ascent.

    Madry, Makelov, Schmidt, Tsipras, Vladu: Towards Deep Learning Models Resistant to Adversarial Attacks,
    2018, arXiv 1706.06083. The losses are summed, never averaged, before the gradient, which is taken with
    respect to the input alone. Works under `torch.no_grad()` and `torch.inference_mode()`, and never waits
    for the device.

    Args:
        loss: from inputs [B, *input] to the loss [B] to be maximised; what it holds must be no inference
            tensor.
        x: the inputs around which the threat lies, in its valid range.
        start: where the first gradient is taken. Used as it is, inside the threat or not.
        threat: what is allowed.
        steps: number of gradients, >= 0.
        step_size: length of each step, in the units of `threat.eps`.

    Returns:
        [B, *input] detached, inside the threat; float64 where x is, else float32.

    Raises:
        UserError: the loss has no gradient with respect to the inputs.
    """
    threat.check(x)
    with torch.inference_mode(False), torch.enable_grad():
        x = own(x)
        project = threat.projection(x)
        x_adv = own(start).to(x.dtype)
        if not steps:
            return project(x_adv)
        for _ in range(steps):
            x_adv.requires_grad_()
            gradient = gradient_of(loss(x_adv).sum(), x_adv)
            x_adv = project(threat.ascend(x_adv.detach(), gradient, step_size))
    return x_adv


class PGD(Attack):
    """Untargeted PGD on the cross-entropy of a model, from random starts inside the threat (`pgd-<steps>`).

    Madry, Makelov, Schmidt, Tsipras, Vladu: Towards Deep Learning Models Resistant to Adversarial Attacks,
    2018, arXiv 1706.06083. An example counts as broken if the end of any restart is misclassified; restarts go on
    with the others, of which each keeps the end with the greatest loss. Under l1 a step moves the hundredth of the
    values where the gradient is largest, see `Threat.direction`.

    Cost: `restarts·steps` gradients, and one forward each restart, of examples that are still right.

    Args:
        threat: what is allowed.
        steps: gradients of each restart, >= 1.
        step_size: None for 2.5 * eps / steps.
        restarts: number of random starts, >= 1.
        memory: bytes of activations that one pass may keep; examples are taken in pieces that fit.

    Raises:
        UserError: steps, restarts or step_size is none of these.
    """

    def __init__(
        self,
        threat: Threat,
        steps: int = 20,
        step_size: float | None = None,
        restarts: int = 1,
        memory: int = MEMORY,
    ) -> None:
        super().__init__(threat, memory)
        check_counts("PGD", steps=steps, restarts=restarts)
        if step_size is not None and not 0 <= step_size < float("inf"):
            raise UserError(f"step_size={step_size} of PGD is not a finite number >= 0.")
        self.name = f"pgd-{steps}"
        self.steps = steps
        self.step_size = 2.5 * threat.eps / steps if step_size is None else step_size
        self.restarts = restarts

    def search(
        self, model: nn.Module, x: Float[Tensor, "B *input"], y: Int[Tensor, " B"], draws: Draws
    ) -> Float[Tensor, "B *input"]:
        """A wrong end if there was one, else that of the greatest loss.

        Raises:
            UserError: no gradient.
        """
        starts = (draws.named(restart) for restart in range(self.restarts))
        return worst_of(x, (partial(self._climbed, model, x, y, start) for start in starts))

    def in_lockstep(
        self,
        model: nn.Module,
        x: Float[Tensor, "B *input"],
        y: Int[Tensor, " B"],
        seed: int = 0,
        index: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B *input"]:
        """The same as a call, of the first restart alone, by as many passes whatever the examples, in one piece.

        For ranks that share out a model's weights, so that each pass is a collective. Arguments as in a call.
        """
        index = torch.arange(len(x)) if index is None else index
        draws = Draws.of(seed, index.to(x.device)).named(self.name).named(0)
        with self.at_work(model):
            x, y = own(x), y.clone()
            found = self._climbed(model, x, y, draws, torch.arange(len(x), device=x.device)).x_adv
            return torch.where(per_example(is_right(model, x, y), x), found, x)

    def _climbed(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws, rows: Tensor) -> Found:
        x, y = x[rows], y[rows]

        def loss(z: Tensor) -> Tensor:
            return cross_entropy(at_least_float32(model(z)), y, reduction="none")

        noise = (2 * draws.rows(rows).uniform(*x.shape[1:]) - 1).to(x.dtype)
        x_adv = pgd(loss, x, self.threat.start(x, noise), self.threat, self.steps, self.step_size)
        with torch.no_grad():
            logits = at_least_float32(model(x_adv))
        return Found(x_adv, cross_entropy(logits, y, reduction="none"), ~agrees(logits, y))
