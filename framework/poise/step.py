"""Step: the only way a recipe touches the world."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from poise.attacks.threat import Threat
from poise.batch import Batch, InnerLoss, Predictions
from poise.data.augmentation import Augmentation, augmented
from poise.distributed import Ranks
from poise.models.classifier import Classifier, Output


@runtime_checkable
class Stack(Protocol):
    """What a step asks of the stack: see `poise.stack.RecipeStack`."""

    def forward(self, x: Float[Tensor, "B *input"], batch: Batch, step: "Step") -> Output: ...
    def inner(self, batch: Batch, step: "Step") -> InnerLoss: ...
    def adjust(
        self, logits: Float[Tensor, "B C"], target: Float[Tensor, "B C"], batch: Batch, step: "Step"
    ) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]: ...
    def criterion(
        self, logits: Float[Tensor, "B C"], target: Float[Tensor, "B C"], batch: Batch, step: "Step"
    ) -> Float[Tensor, " B"]: ...


def _plain() -> Stack:
    from poise.stack import RecipeStack  # the stack is made of recipes, whose hooks take a Step

    return RecipeStack()


def _no_predictions(split: str, rows: object = None, attack: object = None) -> Predictions:
    raise NotImplementedError("step.predict needs a run with splits: use poise.fit, or give Step(predict=…)")


def _unlogged(name: str, value: object) -> None:
    """Logging outside a run goes nowhere."""


def key(*parts: object) -> int:
    """A seed from what a draw depends on: the same in every process, on every machine."""
    return zlib.crc32(",".join(map(str, parts)).encode())


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the global generators that a model on this device draws from.

    `torch.manual_seed` also notes the seed, with the stack of its caller, for every kind of device that is not in
    use: milliseconds that a step cannot spare.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


@dataclass(frozen=True)
class Step:
    """What a hook may use. `Step(model)` with any module that maps inputs to logits works by hand.

    Args:
        model: bare: no recipe's transform applies. Attacks use it; softmax(model(x)) is the prediction.
        stack: the recipes of the run.
        threat: what an attacker may do.
        augment: what is done to training inputs, by alias, in order.
        epoch: from 0.
        global_step: optimiser steps done so far.
        progress: 0 … 1 over the whole run.
        ranks: sums, means and gathers over ranks; the identity on one.
        seed: the run's.
        block: examples in a block, of the loader's batch; 0 makes the whole batch one block.
        first_block: number, in the global batch, of this batch's first block.
        member: the recipe this step is bound to, or plain; its draws are keyed by it.
        predict: split name, rows (all if None), attack (none if None) -> Predictions of them, in evaluation mode, over
            all ranks; see `poise.predictions.predict`.
        log: name, value -> None; a tensor is logged as its mean, what is logged at an epoch's end at its last step.
        stop: reason -> None; ends the training after this step.
    """

    if TYPE_CHECKING:
        model: Classifier
    else:
        model: nn.Module  # any module may be given; it is wrapped below
    stack: Stack = field(default_factory=_plain)
    threat: Threat = field(default_factory=lambda: Threat("linf", 8 / 255))
    augment: Mapping[str, Augmentation] = field(default_factory=dict)
    epoch: int = 0
    global_step: int = 0
    progress: float = 0.0
    ranks: Ranks = field(default_factory=Ranks)
    seed: int = 0
    block: int = 0
    first_block: int = 0
    member: str = "plain"
    predict: Callable[..., Predictions] = _no_predictions
    log: Callable[[str, object], None] = _unlogged
    stop: Callable[[str], None] = lambda reason: None

    def __post_init__(self) -> None:
        given: nn.Module = self.model
        if not isinstance(given, Classifier):
            object.__setattr__(self, "model", Classifier(given, nn.Identity()))

    def bound(self, member: str) -> "Step":
        """The same step, for the draws of another member."""
        return self if member == self.member else replace(self, member=member)

    def replace(self, **changes: Any) -> "Step":
        """The same step with other values for the fields named."""
        return replace(self, **changes)

    def forward(self, x: Float[Tensor, "B *input"], batch: Batch | None = None) -> Output:
        """One pass of the model; the stack's transforms apply where a batch is given."""
        if batch is None:
            return self.model.run(x)
        return self.stack.forward(x, batch, self)

    def view(self, batch: Batch, name: str) -> Float[Tensor, "B ..."]:
        """Another augmented copy of the inputs as the data have them; `batch.x` where nothing augments."""
        if (raw := batch.raw) is None:
            return batch.x

        def draw(alias: str, draws: int) -> Float[Tensor, "B draws"]:
            return self.uniform(batch, raw.new_empty(len(raw), draws), f"{name}/{alias}")

        return augmented(self.augment, raw, draw)

    def inner(self, batch: Batch) -> InnerLoss:
        """The function x [B, *input] -> [B] that an attack maximises."""
        return self.stack.inner(batch, self)

    def loss(self, logits: Float[Tensor, "B C"], batch: Batch) -> Float[Tensor, " B"]:
        """The stack's label loss [B]: its criterion on the logits and targets its members adjusted."""
        adjusted, target = self.adjusted(logits, batch)
        return self.stack.criterion(adjusted, target, batch, self)

    def adjusted(self, logits: Float[Tensor, "B C"], batch: Batch) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]:
        """Logits and targets as the label loss sees them, for an objective with a label term of its own."""
        return self.stack.adjust(logits, batch.target, batch, self)

    def generator(self, name: str) -> torch.Generator:
        """A fresh generator for a batch-wide draw, the same on every rank and for every micro-batch."""
        return self._generator(name, self._device)

    def host_generator(self, name: str) -> torch.Generator:
        """The same for a draw whose value the host needs, such as which layer: one on a GPU would be waited for."""
        return self._generator(name, torch.device("cpu"))

    def blocks(self, batch: Batch, name: str) -> list[tuple[Int[Tensor, " rows"], torch.Generator]]:
        """The rows of each block and a fresh generator for it, whatever rank the block is on."""
        device = batch.x.device
        return [
            (
                torch.arange(begin, end, device=device),
                self._generator(name, device, self.first_block + number),
            )
            for number, (begin, end) in enumerate(self._spans(batch))
        ]

    def normal(self, batch: Batch, like: Shaped[Tensor, "B ..."], name: str) -> Float[Tensor, "B ..."]:
        """Standard normal noise shaped like `like`, drawn block by block."""
        return self._filled(batch, like, name, lambda part, g: part.normal_(generator=g))

    def uniform(self, batch: Batch, like: Shaped[Tensor, "B ..."], name: str) -> Float[Tensor, "B ..."]:
        """Uniform noise in [0, 1) shaped like `like`, drawn block by block."""
        return self._filled(batch, like, name, lambda part, g: part.uniform_(generator=g))

    def _filled(
        self, batch: Batch, like: Tensor, name: str, fill: Callable[[Tensor, torch.Generator], object]
    ) -> Tensor:
        noise = torch.empty_like(like, dtype=torch.promote_types(like.dtype, torch.float32), requires_grad=False)
        for number, (begin, end) in enumerate(self._spans(batch)):
            fill(noise[begin:end], self._generator(name, like.device, self.first_block + number))
        return noise

    def _spans(self, batch: Batch) -> list[tuple[int, int]]:
        size = self.block * batch.copies or len(batch)
        return [(begin, min(begin + size, len(batch))) for begin in range(0, len(batch), size)]

    def _generator(self, name: str, device: torch.device, *block: int) -> torch.Generator:
        seed = key(self.seed, self.global_step, f"{self.member}/{name}", *block)
        return torch.Generator(device).manual_seed(seed)

    @property
    def _device(self) -> torch.device:
        parameter = next(self.model.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device
