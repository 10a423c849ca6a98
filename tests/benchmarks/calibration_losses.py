"""Losses and penalties for calibration beside their authors' code.

    python tests/benchmarks/calibration_losses.py --focal CHECKOUT --dual-focal CHECKOUT --mdca CHECKOUT ...

Each option names a clone and adds its lines to the table of README.md; --caltrain needs TensorFlow, as that code does.
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from poise import Batch, Outcome, RecipeStack, Step
from poise.models.classifier import Output
from poise.recipe import Recipe
from poise_recipes import MDCA, MMCE, DualFocal, Focal, LabelSmoothing, SoftECE
from poise_recipes.confidence.cape import bin_means, estimated, kernel_means

SIZES = ((512, 10), (512, 100))
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Compared:
    """A loss of logits [B, C] and labels [B] in two programs."""

    name: str
    ours: Loss
    theirs: Loss
    dtype: torch.dtype = torch.float64

    def line(self, size: int, classes: int) -> str:
        """Both values, and how far values and slopes are apart, as parts of the largest."""
        keyed = torch.Generator().manual_seed(0)
        logits = (3 * torch.randn(size, classes, generator=keyed, dtype=torch.float64)).to(self.dtype)
        label = torch.multinomial(logits.double().softmax(1), 1, generator=keyed)[:, 0]
        label[::4] = torch.randint(classes, (len(label[::4]),), generator=keyed)
        (ours, slope), (theirs, other) = (with_slope(loss, logits, label) for loss in (self.ours, self.theirs))
        apart = float((slope - other).abs().max() / other.abs().max())
        cells = (f"{size} x {classes}", f"{ours:.7f}", f"{theirs:.7f}", f"{abs(ours / theirs - 1):.0e}", f"{apart:.0e}")
        return f"| {self.name} | {' | '.join(cells)} |"


def with_slope(loss: Loss, logits: Tensor, label: Tensor) -> tuple[float, Tensor]:
    """A loss and its gradient."""
    z = logits.clone().requires_grad_()
    value = loss(z, label)
    (slope,) = torch.autograd.grad(value, z)
    return float(value.detach()), slope


def of_stack(recipe: Recipe, logits: Tensor, label: Tensor) -> Tensor:
    """The mean label loss under a recipe."""
    stack = RecipeStack([recipe])
    batch = Batch.of(logits.detach(), label, logits.shape[1])
    return Step(torch.nn.Identity(), stack).loss(logits, batch).mean()


def of_penalty(recipe: Recipe, logits: Tensor, label: Tensor) -> Tensor:
    """A recipe's penalty."""
    batch = Batch.of(logits.detach(), label, logits.shape[1])
    found = recipe.penalty(Outcome(logits.sum(1), clean=Output(logits)), batch, Step(torch.nn.Identity()))
    assert found is not None
    return found


def module(checkout: str, name: str) -> Any:
    """A module of an official repository."""
    sys.path.insert(0, checkout)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


def focal(checkout: str) -> Iterator[Compared]:
    """torrvision/focal_calibration."""
    plain, adaptive = (module(checkout, f"Losses.{name}") for name in ("focal_loss", "focal_loss_adaptive_gamma"))
    mmce = module(checkout, "Losses.mmce")
    theirs = plain.FocalLoss(gamma=3.0, size_average=True)
    yield Compared("focal gamma=3", partial(of_stack, Focal(3.0)), theirs)
    theirs = adaptive.FocalLossAdaptive(gamma=3.0, size_average=True, device="cpu")
    yield Compared("focal hard_below=0.2", partial(of_stack, Focal(3.0, 5.0, 0.2)), theirs)
    yield Compared("mmce", partial(of_penalty, MMCE(1.0)), mmce.MMCE("cpu"))


def dual_focal(checkout: str) -> Iterator[Compared]:
    """Linwei94/ICML2023-DualFocalLoss."""
    theirs = module(checkout, "dual_focal_loss").DualFocalLoss(gamma=5.0, size_average=True)
    yield Compared("dual_focal gamma=5", partial(of_stack, DualFocal(5.0)), theirs)


def mdca(checkout: str) -> Iterator[Compared]:
    """mdca-loss/MDCA-Calibration."""
    losses = module(checkout, "solvers.loss")
    yield Compared("mdca", partial(of_penalty, MDCA()), losses.MDCA())
    yield Compared("label_smoothing", smoothed, losses.LabelSmoothingLoss(alpha=0.1))


def smoothed(logits: Tensor, label: Tensor) -> Tensor:
    """Ours with their 0.1, which leaves the label 0.9."""
    classes = logits.shape[1]
    return of_stack(LabelSmoothing(0.1 * classes / (classes - 1)), logits, label)


def caltrain(checkout: str) -> Iterator[Compared]:
    """google/uncertainty-baselines, which is in single precision."""
    tf = importlib.import_module("tensorflow")
    soft = module(str(Path(checkout) / "experimental" / "caltrain"), "secondary_losses").get_soft_binning_ece_tensor

    class Theirs(torch.autograd.Function):
        """Their function of confidences and correctness, and TensorFlow's gradient."""

        @staticmethod
        def forward(ctx: Any, confidence: Tensor, right: Tensor) -> Tensor:
            s = tf.Variable(confidence.detach().numpy())
            with tf.GradientTape() as tape:
                value = soft(s, right.numpy(), 15, False, 0.0, 0.01)
            ctx.slope = torch.from_numpy(tape.gradient(value, s).numpy())
            return confidence.new_tensor(float(value))

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Any:
            return gradients[0] * ctx.slope, None

    def theirs(logits: Tensor, label: Tensor) -> Tensor:
        confidence, predicted = logits.softmax(1).max(1)
        return Theirs.apply(confidence, (predicted == label).float())  # type: ignore[no-any-return]

    yield Compared("soft_ece", partial(of_penalty, SoftECE(1.0)), theirs, torch.float32)


def cape(checkout: str) -> Iterator[str]:
    """jackzhu727/deep-probability-estimation: how far targets are apart, where groups divide the rows and where not."""
    theirs = module(checkout, "calibration_tools.cape").CaPE
    settings = {"n_bins": 5, "window": 100, "sigma": 0.05, "get_new_prob": partial(theirs.get_new_prob, None)}
    ours = {"bin": partial(bin_means, bins=5), "kde": partial(kernel_means, reach=100, width=0.05)}
    for kind, estimate in ours.items():
        for size in (5000, 5003):
            keyed = np.random.default_rng(0)
            positive = keyed.random(size)
            label = (keyed.random(size) < positive**2).astype(float)
            state = SimpleNamespace(finetune_type=kind, train_dataset=SimpleNamespace(), **settings)
            with redirect_stdout(StringIO()):
                theirs._sort_update(state, positive, label, np.arange(size), n_bins=5)
            both = (torch.from_numpy(np.stack([1 - column, column], 1)) for column in (positive, label))
            found = estimated(*both, estimate)[:, 1].numpy()
            apart = np.abs(found - state.train_dataset.proposed_probs)
            yield f"| {kind} | {size} | {np.median(apart):.0e} | {apart.max():.0e} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    compared = (focal, dual_focal, mdca, caltrain)
    for each in (*compared, cape):
        parser.add_argument(f"--{each.__name__.replace('_', '-')}", metavar="CHECKOUT", help=each.__doc__)
    options = vars(parser.parse_args())
    torch.set_num_threads(1)
    print("| loss | logits | ours | theirs | loss apart by | slope apart by |")
    print("| --- | --- | --- | --- | --- | --- |")
    with patch.object(Tensor, "cuda", lambda self: self):  # their MDCA begins with a zero on the GPU
        for each in compared:
            if checkout := options[each.__name__]:
                print("\n".join(one.line(*size) for one in each(checkout) for size in SIZES))
    if options["cape"]:
        print("\n| targets | rows | median apart | most apart |\n| --- | --- | --- | --- |")
        print("\n".join(cape(options["cape"])))


if __name__ == "__main__":
    main()
