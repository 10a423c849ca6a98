"""FAB and Square beside their authors' code, and over the same passes by hand.

    python tests/benchmarks/fab_square.py <checkout of fra31/auto-attack> [--pictures=100]

needs POISE_DATA with mnist.npz; trains a network for a minute and prints the tables of README.md.
"""

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from poise.attacks.attack import is_right
from poise.attacks.fab_targeted import TargetedFAB
from poise.attacks.hyperplanes import PLANES, change_to
from poise.attacks.pgd import pgd
from poise.attacks.square import Square
from poise.attacks.threat import Threat
from poise.models.small_cnn import small_cnn

EPS = {"linf": 0.2, "l2": 1.5, "l1": 10.0}
THEIR_NAME = {"linf": "Linf", "l2": "L2", "l1": "L1"}

Passes = list[tuple[int, bool]]  # examples of each pass, and whether a gradient is taken of it


def pictures(split: str, count: int) -> tuple[Tensor, Tensor]:
    """The first of MNIST's split, [N, 1, 28, 28] in 0…1, and their classes."""
    with np.load(Path(os.environ["POISE_DATA"]) / "mnist.npz", allow_pickle=False) as file:
        x, y = file[f"x_{split}"][:count], file[f"y_{split}"][:count]
    return torch.from_numpy(x).float().reshape(-1, 1, 28, 28) / 255, torch.from_numpy(y).long()


def loss(model: nn.Module, y: Tensor) -> Callable[[Tensor], Tensor]:
    """What training lowers and its attack raises."""
    return lambda x: cross_entropy(model(x), y, reduction="none")


def trained(seconds: float) -> nn.Module:
    """A small_cnn that has seen PGD-5 under linf, whose radius grows to 0.3, for so many seconds."""
    x, y = pictures("train", 20000)
    torch.manual_seed(0)
    model = small_cnn(10, (1, 28, 28), width=8)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    begun = time.process_time()
    while (spent := time.process_time() - begun) < seconds:
        rows = torch.randint(len(x), (64,))
        threat = Threat("linf", 0.3 * min(1.0, 0.01 + spent / (0.7 * seconds)))
        start = threat.start(x[rows], 2 * torch.rand(64, 1, 28, 28) - 1)
        x_adv = pgd(loss(model, y[rows]), x[rows], start, threat, 5, threat.eps / 2)
        optimizer.zero_grad()
        loss(model, y[rows])(x_adv).mean().backward()
        optimizer.step()
    return model.eval()


class Noted(nn.Module):
    """A model that notes its passes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.passes: Passes = []

    def forward(self, x: Tensor) -> Tensor:
        self.passes.append((len(x), x.requires_grad))
        return self.model(x)


def by_hand(model: nn.Module, passes: Passes, x: Tensor) -> float:
    """Seconds of the processor that the same passes take on their own."""
    begun = time.process_time()
    for rows, with_gradient in passes:
        some = x[:rows].clone()
        with torch.set_grad_enabled(with_gradient):
            logits = model(some.requires_grad_(with_gradient))
        if with_gradient:
            torch.autograd.grad(logits.sum(), some)
    return time.process_time() - begun


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the processor, and what came of it."""
    begun = time.process_time()
    found = work()
    return time.process_time() - begun, found


def projections() -> None:
    """First table: changes to 1,000 hyperplanes of 100 values each, in float64."""
    from autoattack import fab_projections  # type: ignore[import-not-found]

    print("| norm | planes reached | largest difference of a value |\n| --- | --- | --- |")
    generator = torch.Generator().manual_seed(0)
    x, aim, w = (torch.rand(1000, 100, generator=generator, dtype=torch.float64) for _ in range(3))
    w = (2 * w - 1) * (w < 0.9)
    gap = 3 * (w * (aim - x)).sum(1)
    for norm in PLANES:
        ours = change_to(norm, x[:, None], w, gap[:, None], 0.0, 1.0)[:, 0]
        theirs = getattr(fab_projections, f"projection_{norm}")(x, w, gap + (w * x).sum(1))
        reached = ((w * ours).sum(1) - gap).abs() < 1e-9
        print(f"| {norm} | {int(reached.sum())} | {float((ours - theirs).abs().max()):.0e} |")


def distances(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Second table: how far the nearest wrong points are that nine walks of 100 steps find."""
    from autoattack.fab_pt import FABAttack_PT  # type: ignore[import-not-found]

    print("\n| norm | median, ours | theirs | ours shorter by more than 1 % | longer | same to 1e-3 |")
    print("| --- | --- | --- | --- | --- | --- |")
    for norm, eps in EPS.items():
        threat = Threat(norm, eps)
        ours = TargetedFAB(threat).nearest(model, x, y)[1]
        attack = FABAttack_PT(model, norm=THEIR_NAME[norm], n_iter=100, eps=eps, targeted=True, device="cpu")
        theirs = torch.full_like(ours, torch.inf)
        for attack.target_class in range(2, 11):
            found = attack.attack_single_run(x, y, is_targeted=True)
            away = threat.distance(found, x).to(theirs).masked_fill(is_right(model, found, y), torch.inf)
            theirs = torch.minimum(theirs, away)
        apart = ours / theirs - 1
        counts = (int(each.sum()) for each in (apart < -0.01, apart > 0.01, apart.abs() < 1e-3))
        print(f"| {norm} | {ours.median():.4f} | {theirs.median():.4f} | {' | '.join(map(str, counts))} |", flush=True)


def reference(model: nn.Module, attack: str, threat: Threat, seed: int, queries: int) -> Any:
    """The same attack of their code, as their standard version has it."""
    from autoattack.fab_pt import FABAttack_PT
    from autoattack.square import SquareAttack  # type: ignore[import-not-found]

    name = THEIR_NAME[threat.norm]
    if attack == "square":
        return SquareAttack(model, name, queries, threat.eps, seed=seed, resc_schedule=False, device="cpu")
    return FABAttack_PT(model, norm=name, n_iter=100, eps=threat.eps, targeted=True, device="cpu")


def times(model: nn.Module, x: Tensor, y: Tensor, seeds: int, queries: int) -> None:
    """Third table: seconds, and how many examples withstand with each seed."""
    noted = Noted(model)
    print("\n| attack | s | over the passes by hand | theirs, over theirs | over theirs in s | right | theirs |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for threat in (Threat(norm, eps) for norm, eps in EPS.items()):
        for attack in (TargetedFAB(threat), Square(threat, queries)):
            seconds, over, left = ([[], []] for _ in range(3))  # ours and theirs
            for seed in range(seeds if attack.name == "square" else 1):
                theirs = reference(noted, attack.name, threat, seed, queries)
                for side, work in enumerate((lambda: attack(noted, x, y, seed), lambda: theirs.perturb(x, y))):  # noqa: B023
                    noted.passes = []
                    taken, x_adv = timed(work)
                    seconds[side].append(taken)
                    over[side].append(taken / by_hand(model, noted.passes, x))
                    left[side].append(int((is_right(model, x_adv, y) | ~threat.permits(x_adv, x)).sum()))
            ratios = (np.median(each) for each in (seconds[0], *over, np.divide(*seconds)))
            counts = (", ".join(map(str, each)) for each in left)
            print(
                f"| {attack.name}, {threat.norm} | {' | '.join([*(f'{r:.2f}' for r in ratios), *counts])} |", flush=True
            )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path, help="checkout of fra31/auto-attack")
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--queries", type=int, default=5000, help="of Square")
    parser.add_argument("--training", type=float, default=60, help="seconds")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(options.reference))  # before this directory, where a program has the same name
    projections()
    model = trained(options.training)
    x, y = pictures("test", options.pictures)
    right = is_right(model, x, y)
    print(f"\nright: {int(right.sum())} of {len(x)}")
    distances(model, x[right], y[right])
    times(model, x[right], y[right], options.seeds, options.queries)


if __name__ == "__main__":
    main()
