"""The programs that are compared: each trains a fresh model on the same batches, under a meter, on one rank or more."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from measure import Meter
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from poise import TrainingModule
from poise.attacks.threat import Threat
from poise.console import without_chatter
from poise.data.dataset import Arrays, Splits
from poise.data.module import DataModule
from poise.distributed import current_ranks, strategy
from poise.models.resnet18 import resnet18
from poise.models.small_cnn import small_cnn
from poise.recipe import Recipe

CLASSES, GROUPS = 10, 4
THREAT = Threat("linf", 8 / 255)
SGD: dict[str, Any] = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}


@dataclass(frozen=True)
class Job:
    """What all programs of a comparison train, and for how long.

    Args:
        side: of the square images, one channel.
        width: of `small_cnn`.
        batch_size: examples of a step.
        steps: of one turn.
        turns: of each program; one more comes first, to warm up.
        precision: of the passes.
        device: that trains, cpu or cuda.
    """

    side: int
    width: int
    batch_size: int
    steps: int
    turns: int
    precision: str = "32-true"
    device: str = "cpu"

    def __str__(self) -> str:
        return f"{self.side}x{self.side}, width {self.width}, batch {self.batch_size}"

    def splits(self) -> Splits:
        """Random images with random labels and groups."""
        generator = torch.Generator().manual_seed(0)
        # the last turn is over when a further batch is asked for
        n = self.batch_size * (self.steps * (self.turns + 1) + 1)
        x = torch.rand(n, self.channels, self.side, self.side, generator=generator)
        label, group = (torch.randint(most, (n,), generator=generator) for most in (CLASSES, GROUPS))
        data = Arrays(x, label, group)
        return Splits(data, data, data, data, CLASSES, tuple("0123456789"))

    @property
    def channels(self) -> int:
        """Of the images."""
        return 1

    def passes(self) -> AbstractContextManager[object]:
        """What the passes of a program by hand are in."""
        low = self.precision == "bf16-mixed"
        return torch.autocast(self.device, dtype=torch.bfloat16) if low else nullcontext()

    def here(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Inputs and labels on the device."""
        x, label = (batch[key].to(self.device, non_blocking=True) for key in ("x", "label"))
        return x, label

    def model(self) -> nn.Module:
        """The same model at every call."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return small_cnn(CLASSES, (1, self.side, self.side), width=self.width)


@dataclass(frozen=True)
class Residual(Job):
    """Pictures of three channels for a ResNet-18 whose convolutions run channels-last."""

    def __str__(self) -> str:
        return f"{self.side}x{self.side}, batch {self.batch_size}, {self.precision}"

    @property
    def channels(self) -> int:
        return 3

    def model(self) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return resnet18(CLASSES, (self.channels, self.side, self.side)).to(memory_format=torch.channels_last)


class Metered(DataModule):
    """poise's own data module, under a meter."""

    def __init__(self, job: Job, meter: Meter, weights: Callable[[int], Tensor | None] | None = None) -> None:
        super().__init__(job.splits(), job.batch_size, weights=weights)
        self.meter = meter

    def train_dataloader(self) -> Meter:  # type: ignore[override]  # a loader all the same
        return self.meter.over(super().train_dataloader())

    def _ranks(self) -> tuple[int, int]:
        """Those of the process, for a program by hand has no trainer that tells."""
        ranks = current_ranks()
        return ranks.size, ranks.rank


def shared(model: nn.Module) -> nn.Module:
    """What averages the model's gradients over the ranks; the model itself on one."""
    return model if current_ranks().size == 1 else DistributedDataParallel(model, broadcast_buffers=False)


def bare(job: Job, meter: Meter) -> None:
    """A loop in plain PyTorch."""
    model = shared(job.model().to(job.device))
    optimizer = torch.optim.SGD(model.parameters(), **SGD)
    for batch in Metered(job, meter).train_dataloader():
        x, label = job.here(batch)
        with job.passes():
            loss = F.cross_entropy(model(x), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def trades_floor(job: Job, meter: Meter, steps: int = 10, beta: float = 6.0) -> None:
    """TRADES in plain PyTorch, with as few passes as it has: 13 forwards, 10 input and 2 full backwards."""
    model = job.model().to(job.device)
    trained = shared(model)
    optimizer = torch.optim.SGD(model.parameters(), **SGD)
    for batch in Metered(job, meter).train_dataloader():
        x, label = job.here(batch)
        with job.passes():
            model.eval()
            with torch.no_grad():
                clean = F.log_softmax(model(x), 1)
            low, high = (x - THREAT.eps).clamp(0, 1), (x + THREAT.eps).clamp(0, 1)
            x_adv = (x + 0.001 * torch.randn_like(x)).clamp(low, high)
            for _ in range(steps):
                x_adv.requires_grad_()
                kl = F.kl_div(F.log_softmax(model(x_adv), 1), clean, reduction="sum", log_target=True)
                (gradient,) = torch.autograd.grad(kl, x_adv)
                x_adv = (x_adv.detach() + 2.5 * THREAT.eps / steps * gradient.sign()).clamp(low, high)
            model.train()
            logits, logits_adv = trained(x), trained(x_adv)
            clean, adv = F.log_softmax(logits, 1), F.log_softmax(logits_adv, 1)
            kl = F.kl_div(adv, clean, reduction="batchmean", log_target=True)
            loss = F.cross_entropy(logits, label) + beta * kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class Plain(L.LightningModule):
    """The least that trains and logs its loss under Lightning."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self.model(batch["x"]), batch["label"])
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=1)
        return loss

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        """Never called: Lightning wants it where the data have a validation split."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), **SGD)


def lightning(job: Job, meter: Meter) -> None:
    """The same loss in the smallest LightningModule."""
    _fit(Plain(job.model()), job, Metered(job, meter))


def poise(job: Job, meter: Meter, recipe: Sequence[Recipe] = ()) -> None:
    """The same loss, or a stack's, in a TrainingModule, with its learning rate schedule."""

    def optimizer(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, **SGD)

    module = TrainingModule(job.model(), recipe, threat=THREAT, optimizer=optimizer, splits=job.splits())
    _fit(module, job, Metered(job, meter, partial(module.stack.sample_weights, module.task)))


def _fit(module: L.LightningModule, job: Job, data: Metered) -> None:
    size = current_ranks().size
    with without_chatter():
        trainer = L.Trainer(
            max_epochs=1,
            limit_val_batches=0,
            precision=job.precision,  # type: ignore[arg-type]  # a literal of its own
            accelerator=job.device,
            devices=size,
            strategy=strategy("auto", world_size=size, accelerator=job.device),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            inference_mode=False,
        )
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]  # as in `fit`
        trainer.fit(module, data)
