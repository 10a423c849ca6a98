"""What all attacks of an evaluation have in common: on whom they run, in what pieces, and what they leave alone."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from poise.attacks.draws import Draws
from poise.attacks.given import check_given, check_kinds
from poise.attacks.threat import Threat
from poise.errors import UserError
from poise.modes import Mode, in_mode
from poise.number_checks import check_counts

MEMORY = 2**30  # bytes of activations that a pass may keep

Watch = Callable[[int], None]


class Attack(ABC):
    """Looks for inputs inside a threat that a model gets wrong.

    Works on any module (a function is none) from inputs [B, *input] in the valid range to logits [B, C], in evaluation
    mode, on tensors in float32 or better, under `torch.no_grad()` and `torch.inference_mode()` too; leaves every flag,
    buffer and gradient of the model as it was. Examples that are wrong as they are stay as they are. What becomes of an
    example depends on the seed and its index, not on the batch it comes in.

    A subclass says in `search` what is done with examples that are right.

    Args:
        threat: what is allowed.
        memory: bytes of activations that one pass may keep, >= 1; examples are taken in pieces that fit.

    Raises:
        UserError: no threat, or no such memory.
    """

    name: str
    mode: Mode = "eval"

    def __init__(self, threat: Threat, memory: int = MEMORY) -> None:
        check_threat(type(self).__name__, threat)
        check_counts(type(self).__name__, memory=memory)
        self.threat = threat
        self.memory = memory

    @abstractmethod
    def search(
        self, model: nn.Module, x: Float[Tensor, "B *input"], y: Int[Tensor, " B"], draws: Draws
    ) -> Float[Tensor, "B *input"]:
        """For examples that are right, a point inside the threat: a wrong one if one was found, else the best seen.

        Args:
            model: in the attack's mode.
            x: in float32 or better, not of inference mode.
            y: true labels in 0…C-1.
            draws: of these examples and this attack.
        """

    def __call__(
        self,
        model: nn.Module,
        x: Float[Tensor, "B *input"],
        y: Int[Tensor, " B"],
        seed: int = 0,
        index: Int[Tensor, " B"] | None = None,
        watch: Watch = lambda done: None,
    ) -> Float[Tensor, "B *input"]:
        """The attacked inputs [B, *input], detached; float64 where x is, else float32.

        Args:
            model: from inputs in the valid range to logits [B, C]; it takes float32, whatever its own precision, or
                float64 where x is.
            x: clean inputs in the valid range; where they are NaN the model is wrong.
            y: true labels in 0…C-1.
            seed: of all draws, a number of 64 bits.
            index: position of each example in its split; 0…B-1 where None.
            watch: told the number of examples just done, for a progress bar.

        Raises:
            UserError: what is given is none of these (see `check_kinds` and `check_given`); a model that gives no
                gradient or is unfit for this attack.
        """
        check_kinds(model, x, y, index)
        index = torch.arange(len(x)) if index is None else index
        with self.at_work(model):
            x, y = self.given(model, x, y, seed, index)
            found = x.clone()
            for rows in self.pieces(model, x):
                found[rows] = self.attacked(model, x[rows], y[rows], seed, index[rows.to(index.device)])
                watch(len(rows))
        return found

    @contextmanager
    def at_work(self, model: nn.Module) -> Iterator[None]:
        """The model in the attack's mode, where gradients can be taken."""
        with torch.inference_mode(False), in_mode(model, self.mode):
            yield

    def given(
        self, model: nn.Module, x: Float[Tensor, "B *input"], y: Int[Tensor, " B"], seed: int, index: Int[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B *input"], Int[Tensor, " B"]]:
        """Inputs and labels of its own, once they are looked at."""
        x = own(x)
        if len(x):
            check_given(model, self.threat, x, y, seed, index)
        return x, own_labels(y, x)

    def pieces(self, model: nn.Module, x: Float[Tensor, "B *input"]) -> Iterator[Int[Tensor, " rows"]]:
        """Rows of x that are attacked together."""
        rows = torch.arange(len(x), device=x.device)
        return iter(rows.split(at_once(model, x, self.memory)) if len(x) else ())

    def attacked(
        self, model: nn.Module, x: Float[Tensor, "B *input"], y: Int[Tensor, " B"], seed: int, index: Int[Tensor, " B"]
    ) -> Float[Tensor, "B *input"]:
        """Examples that are right as the attack leaves them, the others as they are; in one piece."""
        self.threat.check(x)
        right = is_right(model, x, y)
        if not right.any():
            return x
        draws = Draws.of(seed, index.to(x.device)).named(self.name)
        found = x.clone()
        found[right] = self.search(model, x[right], y[right], draws.rows(right))
        return found


@torch.no_grad()
def is_right(model: nn.Module, x: Float[Tensor, "B *input"], y: Int[Tensor, " B"]) -> Shaped[Tensor, " B"]:
    """Which examples are predicted as labelled; the lowest class wins a tie, logits that are no number are wrong."""
    return agrees(model(x), y)


def agrees(logits: Float[Tensor, "B C"], y: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
    """Which predictions are as labelled; the lowest class wins a tie, logits that are no number are wrong."""
    return (logits.argmax(-1) == y) & ~logits.isnan().any(-1)  # -inf is a class that is masked


def check_threat(attack: str, threat: object) -> None:
    """Raises UserError unless it is a threat."""
    if not isinstance(threat, Threat):
        raise UserError(f"threat={threat!r} of {attack} is not a Threat: give one such as Threat('linf', 8 / 255).")


def gradient_of(
    total: Float[Tensor, ""], x: Float[Tensor, "B *input"], keep: bool = False
) -> Float[Tensor, "B *input"]:
    """Of a sum over examples, with respect to the inputs alone.

    Args:
        total: the sum.
        x: what it was computed from.
        keep: the graph, for the gradient of another sum.

    Raises:
        UserError: there is none.
    """
    found = torch.autograd.grad(total, x, retain_graph=keep, allow_unused=True)[0] if total.requires_grad else None
    if found is None:
        raise UserError(
            "the model gives no gradient with respect to its inputs, as after torch.no_grad() or .detach(), and an "
            "attack needs one: evaluation=clean measures without."
        )
    return found


def at_once(model: nn.Module, x: Float[Tensor, "B *input"], memory: int) -> int:
    """How many examples of x fit into a pass whose activations are kept in so many bytes; at least one."""
    one, two = (_kept(model, x[:n]) for n in (1, 2)) if len(x) > 1 else (0, 0)
    return max(1, memory // (two - one)) if two > one else max(1, len(x))


def _kept(model: nn.Module, x: Tensor) -> int:
    """Bytes of all that a pass keeps for its backward, weights included."""
    sizes: dict[int, int] = {}

    def noted(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(noted, lambda tensor: tensor):
        logits = model(x.detach().clone().requires_grad_())
    return sum(sizes.values()) if logits.requires_grad else 0


def own(x: Shaped[Tensor, "B *input"]) -> Float[Tensor, "B *input"]:
    """A detached copy in at least float32 that belongs to no inference mode."""
    return at_least_float32(x.detach().clone())


def own_labels(y: Int[Tensor, " B"], x: Shaped[Tensor, "B *input"]) -> Int[Tensor, " B"]:
    """A copy as int64, on the device of x, that belongs to no inference mode."""
    return y.to(x.device, torch.int64, copy=True)


def at_least_float32(x: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The same values; half precision as float32."""
    return x if x.dtype == torch.float64 else x.float()
