"""How much stranger attacks make true labels in noise: `python tests/benchmarks/set_attack.py CHECKOUT` prints a table.

CHECKOUT is one of Trustworthy-ML-Lab/Provably-Robust-Conformal-Prediction, whose PGD is run as it is.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from poise.attacks.threat import Threat
from poise.batch import as_input
from poise.conformal.robust import hps
from poise.data.dataset import Arrays
from poise.data.sources.digits import Digits
from poise.evaluation.set_attack import SetAttack
from poise.models.classifier import Classifier
from poise.models.small_cnn import small_cnn

SIGMA, STEPS, EXAMPLES, COPIES = 0.5, 20, 50, (1, 4, 16, 64, 256)
THREAT = Threat("l2", 0.25)
SEEN = 2000  # noisy copies by which all are judged, none of an attack's


def trained(data: Arrays) -> Classifier:
    """A network that knows the noise."""
    torch.manual_seed(0)
    model = small_cnn(10, (1, 8, 8), width=16)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    x, label = as_input(data.x[:]), data.label
    for _ in range(30):
        for rows in torch.randperm(len(x)).split(64):
            loss = cross_entropy(model(x[rows] + SIGMA * torch.randn_like(x[rows])), label[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def theirs(checkout: Path, copies: int, model: Classifier, x: Tensor, label: Tensor) -> Tensor:
    """Inputs as their PGD leaves them."""
    sys.path.insert(0, str(checkout / "code" / "Third_Party" / "smoothing_adversarial"))
    attacks = import_module("attacks")
    sys.path.pop(0)
    repeated = x.repeat_interleave(copies, 0)
    noise = SIGMA * torch.randn(repeated.shape, generator=torch.Generator().manual_seed(2))
    found = attacks.PGD_L2(steps=STEPS, max_norm=THREAT.eps).attack(
        model, repeated, label, noise=noise, num_noise_vectors=copies
    )
    return found[::copies].detach()


def ours(attack: SetAttack, model: Classifier, x: Tensor, label: Tensor) -> Tensor:
    """Inputs as an attack on sets leaves them."""
    rows = torch.arange(len(x))
    return attack.on(0, rows, 256)(model, x, label, rows)


def attacks(checkout: Path) -> Iterator[tuple[str, int, Callable[[Classifier, Tensor, Tensor], Tensor]]]:
    """By name, with the gradients of an example."""
    yield "none", 0, lambda model, x, label: x
    plain = SetAttack(THREAT, STEPS)
    yield "poise, of the model without noise", STEPS, lambda *given: ours(plain, *given)
    for copies in COPIES:
        smoothed = SetAttack(THREAT, STEPS, SIGMA, copies)
        yield f"poise, {copies} copies", STEPS * copies, lambda *given, by=smoothed: ours(by, *given)
    for copies in COPIES[2:]:
        yield f"theirs, {copies} copies", STEPS * copies, lambda *given, m=copies: theirs(checkout, m, *given)


@torch.no_grad()
def strangeness(model: Classifier, x: Tensor, label: Tensor) -> float:
    """Mean of 1 - p of true labels, over noise of its own."""
    keyed, total = torch.Generator().manual_seed(1), 0.0
    for _ in range(SEEN):
        scores = hps(model(x + SIGMA * torch.randn(x.shape, generator=keyed)))
        total += float(scores.gather(1, label[:, None]).mean())
    return total / SEEN


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = Digits().load(0)
    model = trained(data.train)
    x, label = as_input(data.test.x[:])[:EXAMPLES], data.test.label[:EXAMPLES]
    print("| attack | gradients | 1 - p in noise | seconds |\n| --- | --- | --- | --- |")
    for name, gradients, attack in attacks(given.checkout):
        began = time.perf_counter()
        found = attack(model, x, label)
        seconds = time.perf_counter() - began
        if not THREAT.permits(found, x).all():
            name += " (outside)"
        print(f"| {name} | {gradients:,} | {strangeness(model, found, label):.4f} | {seconds:.1f} |")


if __name__ == "__main__":
    main()
