"""The programs that are compared: each trains a fresh model for some steps and gives the seconds of one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from measure import Clock, Stamped
from torch import Tensor, nn

from poise import TrainingModule
from poise.attacks.threat import Threat
from poise.console import without_chatter
from poise.data.dataset import Arrays, Splits
from poise.data.module import DataModule
from poise.models.small_cnn import small_cnn
from poise.recipe import Recipe

CLASSES = 10
WARM_UP = 3
THREAT = Threat("linf", 8 / 255)
SGD: dict[str, Any] = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}


@dataclass(frozen=True)
class Job:
    """What all programs of a comparison train, and for how long.

    Args:
        side: of the square images, one channel.
        width: of `small_cnn`.
        batch_size: examples of a step.
        steps: of one repetition, the warm-up included.
        clock: wall time, or the processor time of this process (for a machine that others use too).
    """

    side: int
    width: int
    batch_size: int
    steps: int
    clock: Clock

    def splits(self) -> Splits:
        """Random images with random labels."""
        generator = torch.Generator().manual_seed(0)
        n = self.batch_size * self.steps
        x = torch.rand(n, 1, self.side, self.side, generator=generator)
        data = Arrays(x, torch.randint(CLASSES, (n,), generator=generator))
        return Splits(data, data, data, data, CLASSES, tuple("0123456789"))

    def model(self) -> nn.Module:
        """The same model at every call."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return small_cnn(CLASSES, (1, self.side, self.side), width=self.width)


class StampedData(DataModule):
    """poise's own data module; the loader of its last epoch is kept."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.splits(), job.batch_size)
        self.clock = job.clock

    def train_dataloader(self) -> Any:
        self.loader = Stamped(super().train_dataloader(), self.clock)
        return self.loader


def bare(job: Job) -> float:
    """A loop in plain PyTorch."""
    model = job.model()
    optimizer = torch.optim.SGD(model.parameters(), **SGD)
    loader = StampedData(job).train_dataloader()
    for batch in loader:
        loss = F.cross_entropy(model(batch["x"]), batch["label"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loader.step(WARM_UP)


def trades_floor(job: Job, steps: int = 10, beta: float = 6.0) -> float:
    """TRADES in plain PyTorch, with as few passes as it has: 13 forwards, 10 input and 2 full backwards."""
    model = job.model()
    optimizer = torch.optim.SGD(model.parameters(), **SGD)
    loader = StampedData(job).train_dataloader()
    for batch in loader:
        x = batch["x"]
        with torch.no_grad():
            clean = F.log_softmax(model(x), 1)
        low, high = (x - THREAT.eps).clamp(0, 1), (x + THREAT.eps).clamp(0, 1)
        x_adv = (x + 0.001 * torch.randn_like(x)).clamp(low, high)
        for _ in range(steps):
            x_adv.requires_grad_()
            kl = F.kl_div(F.log_softmax(model(x_adv), 1), clean, reduction="sum", log_target=True)
            (gradient,) = torch.autograd.grad(kl, x_adv)
            x_adv = (x_adv.detach() + 2.5 * THREAT.eps / steps * gradient.sign()).clamp(low, high)
        logits, logits_adv = model(x), model(x_adv)
        kl = F.kl_div(F.log_softmax(logits_adv, 1), F.log_softmax(logits, 1), reduction="batchmean", log_target=True)
        loss = F.cross_entropy(logits, batch["label"]) + beta * kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loader.step(WARM_UP)


class Plain(L.LightningModule):
    """The least that trains and logs its loss under Lightning."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self.model(batch["x"]), batch["label"])
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), **SGD)


def lightning(job: Job) -> float:
    """The same loss in the smallest LightningModule."""
    return _fitted(Plain(job.model()), job)


def poise(job: Job, recipe: tuple[Recipe, ...] = ()) -> float:
    """The same loss, or a stack's, in a TrainingModule."""
    module = TrainingModule(job.model(), recipe, CLASSES, threat=THREAT, optimizer=lambda p: torch.optim.SGD(p, **SGD))
    return _fitted(module, job)


def _fitted(module: L.LightningModule, job: Job) -> float:
    data = StampedData(job)
    with without_chatter():
        trainer = L.Trainer(
            max_epochs=1,
            limit_val_batches=0,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            inference_mode=False,
        )
        trainer.fit(module, data)
    return data.loader.step(WARM_UP)
