"""Projected gradient ascent on the loss."""

import zlib
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import one_hot

from poise.attacks.threat import Threat
from poise.errors import UserError
from poise.losses import soft_cross_entropy
from poise.modes import Mode, check_mode, in_mode


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
        x = _own(x)
        project = threat.projection(x)
        x_adv = _own(start).to(x.dtype)
        if not steps:
            return project(x_adv)
        for _ in range(steps):
            x_adv.requires_grad_()
            gradient = _gradient(loss(x_adv).sum(), x_adv)
            x_adv = project(threat.ascend(x_adv.detach(), gradient, step_size))
    return x_adv


def _gradient(total: Tensor, x: Tensor) -> Tensor:
    found = torch.autograd.grad(total, x, allow_unused=True)[0] if total.requires_grad else None
    if found is None:
        raise UserError(
            "the model gives no gradient with respect to its inputs, as after torch.no_grad() or .detach(), and an "
            "attack needs one: evaluation=clean measures without."
        )
    return found


class PGD:
    """Untargeted PGD on the cross-entropy of a model, with random starts inside the threat.

    Madry, Makelov, Schmidt, Tsipras, Vladu: Towards Deep Learning Models Resistant to Adversarial Attacks,
    2018, arXiv 1706.06083. Of several restarts each example keeps a point that is misclassified if there is
    one, and of such the one with the greatest loss. An example's starts are drawn from (seed, restart, its
    index), so they do not depend on the batch it comes in.

    Args:
        threat: what is allowed.
        steps: gradients of each restart, >= 1.
        step_size: None for 2.5 * eps / steps.
        restarts: number of random starts, >= 1.
        mode: mode of the model meanwhile. In 'train' a batch norm also goes on updating its running
            statistics.

    Raises:
        UserError: steps, restarts, step_size or mode is none of these.
    """

    def __init__(
        self,
        threat: Threat,
        steps: int = 20,
        step_size: float | None = None,
        restarts: int = 1,
        mode: Mode = "eval",
    ) -> None:
        for name, count in (("steps", steps), ("restarts", restarts)):
            if count < 1:
                raise UserError(f"{name}={count} of PGD is not a number >= 1.")
        if step_size is not None and not 0 <= step_size < float("inf"):
            raise UserError(f"step_size={step_size} of PGD is not a finite number >= 0.")
        check_mode(mode)
        self.threat = threat
        self.steps = steps
        self.step_size = 2.5 * threat.eps / steps if step_size is None else step_size
        self.restarts = restarts
        self.mode: Mode = mode

    def __call__(
        self,
        model: nn.Module,
        x: Float[Tensor, "B *input"],
        y: Int[Tensor, " B"],
        seed: int = 0,
        index: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B *input"]:
        """The attacked inputs [B, *input].

        Args:
            model: from inputs in the valid range to logits [B, C].
            x: clean inputs in the valid range.
            y: true labels in 0…C-1.
            seed: of the random starts.
            index: position of each example in its split; 0…B-1 where None.
        """
        with torch.inference_mode(False), in_mode(model, self.mode):
            x, y = _own(x), y.clone()
            rows = list(range(len(x))) if index is None else index.tolist()
            best = self._climb(model, x, y, _noise(x, seed, 0, rows))
            for restart in range(1, self.restarts):
                other = self._climb(model, x, y, _noise(x, seed, restart, rows))
                best = _worse(model, best, other, y)
        return best

    def _climb(self, model: nn.Module, x: Tensor, y: Tensor, noise: Tensor) -> Tensor:
        start = self.threat.start(x, noise)
        return pgd(lambda z: _cross_entropy(model(z), y), x, start, self.threat, self.steps, self.step_size)


def _cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    logits = _at_least_float32(logits)
    return soft_cross_entropy(logits, one_hot(y, logits.shape[-1]).to(logits.dtype))


@torch.no_grad()
def _worse(model: nn.Module, best: Tensor, other: Tensor, y: Tensor) -> Tensor:
    """Of two points of each example the misclassified one; of two alike, that with the greater loss."""
    of_best, of_other = model(best), model(other)
    best_wrong, other_wrong = of_best.argmax(-1) != y, of_other.argmax(-1) != y
    greater = _cross_entropy(of_other, y) > _cross_entropy(of_best, y)
    take = torch.where(best_wrong == other_wrong, greater, other_wrong)
    return torch.where(take.reshape(-1, *[1] * (best.ndim - 1)), other, best)


def _noise(x: Tensor, seed: int, restart: int, rows: list[int]) -> Tensor:
    """Uniform in [-1, 1], the same for an example whatever its batch, device and dtype."""
    noise = torch.empty(x.shape, dtype=torch.float32)
    generator = torch.Generator()
    for values, row in zip(noise, rows, strict=True):
        key = zlib.crc32(f"{seed},pgd,{restart},{row}".encode())
        values.uniform_(-1.0, 1.0, generator=generator.manual_seed(key))
    return noise.to(x)


def _own(x: Tensor) -> Tensor:
    """A detached copy in at least float32 that belongs to no inference mode."""
    return _at_least_float32(x.detach().clone())


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
