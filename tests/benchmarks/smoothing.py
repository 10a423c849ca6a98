"""Certificates and SmoothAdv beside their authors' code.

    python tests/benchmarks/smoothing.py <checkout of locuslab/smoothing> <of Hadisalman/smoothing-adversarial>

needs statsmodels, as that code does; prints the tables of README.md.
"""

import argparse
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from poise import Batch, RecipeStack, Step, Threat
from poise.evaluation.certificates import is_ahead
from poise.evaluation.certify import certificates
from poise_recipes import PGD, SmoothAdv

CLASSES, SIGMA, ALPHA = 10, 0.25, 0.001
EXAMPLES, STEPS, EPS = 12, 6, 0.2


def modules(checkout: Path, name: str) -> Any:
    """A module of an official repository, under the SciPy that there is."""
    stats.binom_test = lambda hits, trials, p: stats.binomtest(int(hits), int(trials), p).pvalue  # by its former name
    sys.path.insert(0, str(checkout / "code"))
    try:
        return __import__(name)
    finally:
        sys.path.pop(0)


def random_votes(copies: int, trials: int) -> tuple[Tensor, Tensor]:
    """Votes that choose, and votes that count, of classes of which one is more or less ahead."""
    random = np.random.default_rng(copies)
    share = np.concatenate([random.dirichlet(np.full(CLASSES, 0.05), trials // 2), half_and_half(random, trials // 2)])
    chosen, counted = (np.stack([random.multinomial(n, p) for p in share]) for n in (100, copies))
    return torch.from_numpy(chosen), torch.from_numpy(counted)


def half_and_half(random: np.random.Generator, trials: int) -> np.ndarray[Any, Any]:
    """Two classes with almost all of the votes, nearly alike."""
    first = random.normal(0.5, 0.02, trials).clip(0, 1)[:, None]
    return np.concatenate([first, 1 - first, np.zeros((trials, CLASSES - 2))], 1)


def compare_certificates(core: Any, copies: int, trials: int = 2000) -> str:
    """One line of the first table: the same votes, ours and theirs."""

    class Counted(core.Smooth):  # type: ignore[misc, name-defined]
        """Their class on votes that are there."""

        def _sample_noise(self, x: Any, num: int, batch_size: int) -> np.ndarray[Any, Any]:
            return next(x)

    smooth = Counted(nn.Identity(), CLASSES, SIGMA)
    chosen, counted = random_votes(copies, trials)
    ours = certificates(chosen, counted, copies, torch.zeros(trials).long(), SIGMA, ALPHA)
    theirs = [
        smooth.certify(iter((first, second)), 100, copies, ALPHA, 1)
        for first, second in zip(chosen.numpy(), counted.numpy(), strict=True)
    ]
    predicted, radius = (torch.tensor(part) for part in zip(*theirs, strict=True))
    first, second = counted.topk(2).values.unbind(1)
    abstains = torch.tensor(
        [smooth.predict(iter((votes,)), copies, ALPHA, 1) == smooth.ABSTAIN for votes in counted.numpy()]
    )
    same = int((ours.predicted == predicted).sum()), int((is_ahead(first, second, ALPHA) == ~abstains).sum())
    apart = float((ours.radius - radius).abs().max())
    certain = int((predicted != smooth.ABSTAIN).sum())
    cells = (f"{copies:,}", f"{certain} of {trials}", f"{same[0]}", f"{same[1]}", f"{apart:.0e}")
    return f"| {' | '.join(cells)} |"


def network() -> nn.Module:
    """Convolutions in double precision."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 8, 3, stride=2), nn.Tanh(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8 * 9, CLASSES)).double().eval()


def compare_smooth_adv(attacks: Any, samples: int) -> str:
    """One line of the second table: attack, its losses and the training loss, on the same inputs and noise."""
    model, generator = network(), torch.Generator().manual_seed(1)
    x = 0.4 + 0.2 * torch.rand(EXAMPLES, 3, 8, 8, generator=generator, dtype=torch.float64)  # the range is never met
    batch = Batch.of(x, torch.arange(EXAMPLES) % CLASSES, CLASSES)
    stack = RecipeStack([SmoothAdv(SIGMA, samples, warmup=0.0), PGD(STEPS, 2 * EPS / STEPS, start="none")])
    step = Step(model, stack, threat=Threat("l2", EPS))
    own = step.bound("smooth_adv")
    noises = [SIGMA * own.normal(batch, x, f"noise {i}") for i in range(samples)]
    theirs, seen, losses = their_attack(attacks, model, batch, noises)
    inner = stack.inner(batch, step)
    at = [passed.reshape(EXAMPLES, samples, *x.shape[1:])[:, 0] - noises[0] for passed in seen]
    ours = torch.stack([inner(inputs).mean().detach() for inputs in at])
    if samples == 1:
        losses = losses / EXAMPLES  # a sum there, a mean with more noises
    attacked = stack.attack(batch, step)
    trained = stack.loss(batch.replace(x_adv=theirs), step)()
    noisy = torch.stack([theirs + noise for noise in noises], 1).flatten(0, 1)
    expected = F.cross_entropy(model(noisy), batch.label.repeat_interleave(samples))
    apart = (
        float((ours - losses).abs().max()),
        float((attacked.attacked - theirs).abs().max()),
        float((trained - expected).detach().abs()),
    )
    cells = (str(samples), f"{float(losses[-1]):.9f}", *(f"{each:.0e}" for each in apart))
    return f"| {' | '.join(cells)} |"


def their_attack(
    attacks: Any, model: nn.Module, batch: Batch, noises: list[Tensor]
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Their attacked inputs, what the model saw at each step, and the loss of each step."""
    samples, seen, losses = len(noises), list[Tensor](), list[Tensor]()

    def heard(loss: Any) -> Any:
        def called(*arguments: Any, **named: Any) -> Tensor:
            losses.append(loss(*arguments, **named))
            return losses[-1]

        return called

    attacks.F = SimpleNamespace(softmax=F.softmax, nll_loss=heard(F.nll_loss), cross_entropy=heard(F.cross_entropy))
    handle = model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    noise = torch.stack(noises, 1).flatten(0, 1)
    attacker = attacks.PGD_L2(steps=STEPS, max_norm=EPS)
    found = attacker.attack(model, batch.x.repeat_interleave(samples, 0), batch.label, noise, samples)
    handle.remove()
    return found.detach()[::samples], seen, torch.stack(losses).detach()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("smoothing", type=Path, help="checkout of locuslab/smoothing")
    parser.add_argument("smooth_adv", type=Path, help="checkout of Hadisalman/smoothing-adversarial")
    options = parser.parse_args()
    torch.set_num_threads(1)
    core, attacks = modules(options.smoothing, "core"), modules(options.smooth_adv, "attacks")
    print("| copies | certain | same class | same prediction | radii apart by |\n| --- | --- | --- | --- | --- |")
    for copies in (100, 1000, 100_000):
        print(compare_certificates(core, copies))
    torch.set_default_dtype(torch.float64)  # their attack makes its change in it
    print("\n| m | loss at the last step | losses apart by | attacked inputs apart by | training loss apart by |")
    print("| --- | --- | --- | --- | --- |")
    for samples in (1, 2, 4):
        print(compare_smooth_adv(attacks, samples))


if __name__ == "__main__":
    main()
