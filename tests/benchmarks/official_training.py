"""Adversarial trainings beside their authors' code: `python tests/benchmarks/official_training.py --free=CHECKOUT …`.

CHECKOUTs are clones of mahyarnajibi/FreeAdversarialTraining, locuslab/fast_adversarial and locuslab/robust_overfitting,
whose training loops are run as they are, on three batches. As in `official.py` both train the same network on the same
inputs from the same random starts in double precision, and what needs a GPU, half precision or a file is given to them;
their networks and data, and means and deviations of colours, which are zero and one here, are ours.
"""

import argparse
import contextlib
import itertools
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from official import CLASSES, in_double_on_a_cpu, loaded, network
from torch import Tensor, nn

from poise import Batch, RecipeStack, Step, Threat
from poise.attacks.norms import NORMS
from poise.models.classifier import Classifier
from poise.modes import frozen_statistics
from poise.recipe import Task
from poise_recipes import PGD, PGDAT, FreeAT

ROWS, SIDE, BATCHES, REPLAYS, STEPS = 16, 32, 3, 4, 10
LR, MOMENTUM, DECAY = 0.1, 0.9, 5e-4
LINF, L2 = Threat("linf", 8 / 255), Threat("l2", 128 / 255)
INSIDE, ALL = (0.1, 0.9), (0.0, 1.0)  # where inputs lie


class Settings(dict[str, Any]):
    """A mapping whose values are attributes, as one of the scripts has them."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


@dataclass
class Trained:
    """A network after a training, and the inputs that trained it, a batch at each step."""

    model: Classifier
    inputs: list[Tensor] = field(default_factory=list)


def batches(span: tuple[float, float]) -> list[Batch]:
    """Inputs in a span, and labels."""
    keyed = torch.Generator().manual_seed(1)
    low, high = span
    made = []
    for _ in range(BATCHES):
        x = low + (high - low) * torch.rand(ROWS, 3, SIDE, SIDE, generator=keyed, dtype=torch.float64)
        made.append(Batch.of(x, torch.randint(CLASSES, (ROWS,), generator=keyed), CLASSES))
    return made


def sgd(model: nn.Module) -> torch.optim.SGD:
    """That of all the scripts."""
    return torch.optim.SGD(model.parameters(), LR, MOMENTUM, weight_decay=DECAY)


class Masked(FreeAT):
    """With the clip of Shafahi et al., which lets no gradient through."""

    def on_step_end(self, batch: Batch, step: Step) -> None:
        changed, gradient = batch.x + self.delta, batch.attacked.grad
        assert gradient is not None
        gradient.masked_fill_(changed != changed.clamp(0, 1), 0.0)
        super().on_step_end(batch, step)


class Kept(FreeAT):
    """With the range as fast_adversarial keeps it: for changes, at the batch that they were found on."""

    def attack(self, batch: Batch, step: Step) -> Batch:
        attacked = super().attack(batch, step)
        return attacked.replace(x_adv=(batch.x + self.delta).requires_grad_())

    def on_step_end(self, batch: Batch, step: Step) -> None:
        super().on_step_end(batch, step)
        self.delta = (batch.x + self.delta).clamp(0, 1) - batch.x


def ours(stack: RecipeStack, threat: Threat, span: tuple[float, float], drops: Sequence[float] = ()) -> Trained:
    """Each batch trained on as often as the stack wants; at `drops` the learning rate falls to a tenth."""
    found = Trained(network())
    model, optimizer = found.model, sgd(found.model)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, drops)  # type: ignore[arg-type]
    stack.setup(Task(CLASSES), model)
    for done, given in enumerate(given for given in batches(span) for _ in range(stack.replays)):
        step = Step(model, stack, threat=threat, global_step=done)
        attacked = stack.attack(given, step)
        optimizer.zero_grad()
        stack.loss(attacked, step)().backward()
        optimizer.step()
        stack.on_step_end(attacked, step)
        schedule.step()
        found.inputs.append(attacked.attacked.detach())
    return found


def shafahi(checkout: str, span: tuple[float, float]) -> Trained:
    """Their function that trains an epoch, with the change of zeros that it begins with."""
    colours, sizes = Settings(mean=(0.0,) * 3, std=(1.0,) * 3, print_freq=10**9), Settings(batch_size=ROWS)
    attack = Settings(n_repeats=REPLAYS, fgsm_step=LINF.eps, clip_eps=LINF.eps)
    settings = Settings(TRAIN=colours, ADV=attack, DATA=Settings(sizes, crop_size=SIDE))
    found, data = Trained(network()), batches(span)
    with (
        alone(["main_free.py", f"--config={checkout}/configs.yml", "data"], torch.zeros(0)),
        patch.object(sys, "path", [f"{checkout}/lib", *sys.path]),
        patch.dict(sys.modules, {"easydict": module("easydict", EasyDict=lambda given: given)}),
        patch("yaml.load", lambda file: settings),
    ):
        (script,) = loaded(checkout, "main_free")
        pairs = [(given.x, given.label) for given in data]
        unlogged = patch.object(script, "accuracy", lambda *_, **__: ([0.0], [0.0]))  # theirs views what is strided
        with unlogged, heard(found, every=1, position=0):
            script.train(pairs, found.model, nn.CrossEntropyLoss(), sgd(found.model), 0)
    return found


def wong(checkout: str, span: tuple[float, float]) -> Trained:
    """Their script of free training, on the schedule that has steps."""
    found, data = Trained(network()), batches(span)
    options = [f"--lr-max={LR}", f"--batch-size={ROWS}", f"--minibatch-replays={REPLAYS}", "--epochs=1"]
    amp = module("amp", initialize=lambda model, opt, **_: (model, opt), scale_loss=lambda loss, _: nullcontext(loss))
    with (
        alone(["train_free.py", "--lr-schedule=multistep", *options], torch.zeros(0)),
        patch.dict(sys.modules, {"apex": module("apex", amp=amp), "apex.amp": amp}),
    ):
        (script,) = loaded(f"{checkout}/CIFAR10", "train_free")
        stand_in: dict[str, Any] = {
            "PreActResNet18": lambda: found.model,
            "get_loaders": lambda folder, size: ([(given.x, given.label) for given in data], []),
            "evaluate_pgd": lambda *_: (0.0, 0.0),
            "evaluate_standard": lambda *_: (0.0, 0.0),
            "std": torch.ones(3, 1, 1),
            "lower_limit": torch.zeros(3, 1, 1),
            "upper_limit": torch.ones(3, 1, 1),
        }
        with patch.multiple(script, **stand_in), heard(found, every=1, position=0):
            script.main()
    return found


def rice(checkout: str, threat: Threat, size: float, silent: Sequence[int] = ()) -> Trained:
    """Their script, on inputs of the whole range; batch norm's statistics stay in the passes that are `silent`.

    A step makes a pass for each of the attack's steps, one that looks at its loss, the one that trains, and one on
    clean inputs with the weights that have been trained.
    """
    found, data = Trained(network()), batches(ALL)
    records = [{"input": given.x, "target": given.label} for given in data]
    norm = f"--norm={threat.norm.replace('l', 'l_', 1)}"
    attack = [norm, f"--epsilon={255 * threat.eps:.0f}", f"--pgd-alpha={255 * size}", f"--attack-iters={STEPS}"]
    with alone(
        ["train_cifar.py", "--lr-schedule=onedrop", f"--lr-max={LR}", "--epochs=1", *attack],
        *(NORMS[threat.norm].scatter(noise) for noise in starts(data, threat)),
    ):
        (script,) = loaded(checkout, "train_cifar")
        nothing = {part: {"data": torch.zeros(1, 4, 4, 3).numpy(), "labels": [0]} for part in ("train", "test")}
        stand_in: dict[str, Any] = {
            "PreActResNet18": lambda: found.model,
            "cifar10": lambda folder: nothing,
            "Batches": lambda rows, size, shuffle, **_: records if shuffle else records[:1],
            "mu": torch.zeros(3, 1, 1),
            "std": torch.ones(3, 1, 1),
        }
        with patch.multiple(script, **stand_in), heard(found, STEPS + 3, STEPS + 1, silent):
            script.main()
    return found


def starts(data: Sequence[Batch], threat: Threat) -> list[Tensor]:
    """The noise in [-1, 1] from which `pgd` starts at each batch."""
    steps = [Step(network(), threat=threat, global_step=done).bound("pgd") for done in range(len(data))]
    return [2 * step.uniform(given, given.x, "start") - 1 for step, given in zip(steps, data, strict=True)]


@contextmanager
def alone(arguments: list[str], *points: Tensor) -> Iterator[None]:
    """A script's command line, a folder for what it writes, and points of the unit ball where its attacks start."""
    upcoming = itertools.chain(points, itertools.repeat(points[-1]))
    drawn: list[Tensor] = []

    def point(tensor: Tensor, *_: Any) -> Tensor:
        drawn.append(next(upcoming))
        return tensor.copy_(drawn[-1])

    def uniform(tensor: Tensor, low: float, high: float) -> Tensor:
        if low == 0:  # lengths for a direction that was drawn
            return tensor.copy_(drawn[-1].flatten(1).norm(dim=1).view_as(tensor))
        return point(tensor).mul_(high)

    def shortened(tensor: Tensor, p: int, dim: int, maxnorm: float) -> Tensor:
        return tensor.clone().renorm_(p, dim, maxnorm)

    with ExitStack() as stack:
        stack.enter_context(contextlib.chdir(stack.enter_context(tempfile.TemporaryDirectory())))
        stack.enter_context(patch.object(sys, "argv", arguments))
        stack.enter_context(in_double_on_a_cpu(points[0]))
        for name, replaced in (("normal_", point), ("uniform_", uniform), ("renorm", shortened)):
            stack.enter_context(patch.object(Tensor, name, replaced))
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        stack.callback(logging.disable, logging.NOTSET)
        torch.set_default_dtype(torch.float64)
        logging.disable()
        yield


@contextmanager
def heard(found: Trained, every: int, position: int, silent: Sequence[int] = ()) -> Iterator[None]:
    """Keeps the inputs of one in so many training passes; statistics stay in those passes that are silent."""
    calls, run = itertools.count(), found.model.forward

    def forward(x: Tensor) -> Tensor:
        number = next(calls) % every if found.model.training else -1
        if number == position:
            found.inputs.append(x.detach().clone())
        with frozen_statistics(found.model) if number in silent else nullcontext():
            return run(x)

    with patch.object(found.model, "forward", forward):
        yield


def module(name: str, **values: Any) -> ModuleType:
    """A module that has these."""
    made = ModuleType(name)
    vars(made).update(values)
    return made


def line(name: str, mine: Trained, theirs: Trained) -> str:
    """How far training went, and how far apart inputs, weights and batch norm's statistics are."""
    before, after, other = (dict(made.model.state_dict()) for made in (Trained(network()), mine, theirs))
    weights = [name for name, _ in mine.model.named_parameters()]
    statistics = [name for name in after if name.endswith(("running_mean", "running_var"))]
    inputs = furthest(mine.inputs, theirs.inputs)
    way = furthest([after[n] for n in weights], [before[n] for n in weights])
    apart = [furthest([after[n] for n in names], [other[n] for n in names]) for names in (weights, statistics)]
    return f"| {name} | {len(mine.inputs)} | {inputs:.0e} | {way:.2f} | {apart[0]:.0e} | {apart[1]:.0e} |"


def furthest(some: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """The largest difference of two values."""
    return max(float((a - b).detach().abs().max()) for a, b in zip(some, others, strict=True))


def trainings(options: argparse.Namespace) -> Iterator[str]:
    """The lines of the table, for the checkouts that are given."""
    if options.free:
        yield from free("free", Masked, (), lambda span: shafahi(options.free, span))
    if options.fast:
        drops = [BATCHES * REPLAYS * share for share in (0.5, 0.75)]
        yield from free("free of fast_adversarial", Kept, drops, lambda span: wong(options.fast, span))
    if options.overfitting:
        for threat, size in ((LINF, 2 / 255), (L2, 15 / 255)):
            mine = ours(RecipeStack([PGDAT(), PGD(STEPS, size, mode="train")]), threat, ALL)
            for name, silent in (("", ()), (", two passes of theirs silent", (STEPS, STEPS + 2))):
                yield line(f"PGD-AT, {threat.norm}{name}", mine, rice(options.overfitting, threat, size, silent))


def free(
    name: str, alike: type[FreeAT], drops: Sequence[float], theirs: Callable[[tuple[float, float]], Trained]
) -> Iterator[str]:
    """Lines of free training: inside the range, and at its ends, where `alike` does what their code does."""
    for where, recipe, span in (("inside", FreeAT, INSIDE), ("at the ends", FreeAT, ALL), ("as theirs", alike, ALL)):
        mine = ours(RecipeStack({"free_at": recipe(REPLAYS)}), LINF, span, drops)
        yield line(f"{name}, {where}", mine, theirs(span))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("free", "fast", "overfitting"):
        parser.add_argument(f"--{name}", metavar="CHECKOUT", type=os.path.abspath, help="of the authors' code")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # their code is from other times
    print(f"PyTorch {torch.__version__}\n")
    print("| training | steps | inputs apart by | weights moved by | they by | statistics by |\n|" + " --- |" * 6)
    for text in trainings(options):
        print(text, flush=True)


if __name__ == "__main__":
    main()
