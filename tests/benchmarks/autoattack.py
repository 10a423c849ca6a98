"""What AutoAttack costs: over the same passes by hand, and over its authors' code.

    python tests/benchmarks/autoattack.py <checkout of fra31/auto-attack> [--pictures=100]

needs POISE_DATA with mnist.npz; prints the table of README.md. Another trained network is attacked with --model,
--data and --eps, on a GPU with --device=cuda.
"""

import argparse
import os
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import clock_of
from torch import Tensor, nn

from poise import Threat, fit
from poise.attacks.autoattack import AutoAttack

EPS = 0.2

Calls = Counter[tuple[int, int]]  # examples of a pass, gradients taken of it -> how often


def pictures(path: Path, count: int) -> tuple[Tensor, Tensor]:
    """The first test pictures of a file, [N, C, H, W] in 0…1, and their classes."""
    with np.load(path, allow_pickle=False) as file:
        x, y = torch.from_numpy(file["x_test"][:count]), torch.from_numpy(file["y_test"][:count])
    channels_first = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)
    return channels_first.float() / 255, y.long()


def trained(directory: Path, width: int, epochs: int = 8) -> nn.Module:
    """A small_cnn trained adversarially on 10,000 pictures; kept in the directory."""
    from poise import Predictor

    if not (directory / "report.json").exists():
        fit(
            recipe={"name": ["trades"], "trades": {"beta": 3.0}, "pgd": {"steps": 7}},
            data={
                "name": ["npz", "subset"],
                "path": os.environ["POISE_DATA"] + "/mnist.npz",
                "subset": {"fraction": 0.2},
            },
            model={"name": "small_cnn", "width": width},
            optimizer={"name": "adamw", "lr": 2e-3},
            threat={"name": "linf", "eps": EPS},
            trainer={"max_epochs": epochs, "gradient_clip": 1.0},
            evaluation="none",
            calibration="none",
            tracking="none",
            run_dir=str(directory),
        )
    return Predictor.load(directory).model


@contextmanager
def noted(model: nn.Module) -> Iterator[Calls]:
    """How large passes are meanwhile, and how many gradients are taken of each."""
    calls: Calls = Counter()
    taken: list[list[int]] = []

    def forward(module: nn.Module, inputs: object, logits: Tensor) -> None:
        if not logits.requires_grad:
            calls[len(logits), 0] += 1
            return
        own = [len(logits), 0]
        taken.append(own)
        logits.register_hook(lambda gradient: own.__setitem__(1, own[1] + 1))

    handle = model.register_forward_hook(forward)
    try:
        yield calls
    finally:
        handle.remove()
        calls.update((rows, gradients) for rows, gradients in taken)


def by_hand(model: nn.Module, calls: Calls, x: Tensor) -> None:
    """The same passes on their own."""
    for (rows, gradients), often in calls.items():
        some = x[torch.arange(rows) % len(x)].clone()
        for _ in range(often):
            if gradients:
                leaf = some.requires_grad_()
                logits = model(leaf)
                for turn in range(gradients):
                    torch.autograd.grad(logits.sum(), leaf, retain_graph=turn < gradients - 1)
            else:
                with torch.no_grad():
                    model(some)


def timed(clock: Callable[[], float], work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    begun = clock()
    found = work()
    return clock() - begun, found


def reference(model: nn.Module, checkout: Path, name: str, eps: float) -> Callable[[Tensor, Tensor], Tensor]:
    """One attack of the authors' code, standard version."""
    sys.path.insert(0, str(checkout))
    from autoattack import AutoAttack as Theirs  # type: ignore[import-not-found]

    device = next(model.parameters()).device
    theirs = Theirs(model, norm="Linf", eps=eps, seed=0, verbose=False, device=device)
    theirs.attacks_to_run = [name]
    return lambda x, y: theirs.run_standard_evaluation(x, y, bs=len(x))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path, help="checkout of fra31/auto-attack")
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--width", type=int, default=8, help="of small_cnn")
    parser.add_argument(
        "--model",
        type=Path,
        default=Path(tempfile.gettempdir(), "poise-benchmarks", "mnist-trades"),
        help="where it is kept",
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ["POISE_DATA"], "mnist.npz"), help="x_test, y_test")
    parser.add_argument("--eps", type=float, default=EPS, help="of the linf ball")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="that attacks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    clock = clock_of(options.device)
    model = trained(options.model, options.width).eval().to(options.device, memory_format=torch.contiguous_format)
    x, y = (tensor.to(options.device) for tensor in pictures(options.data, options.pictures))
    print("| attack | examples | s | over the passes by hand | over the reference | right, reference's |")
    print("| --- | --- | --- | --- | --- | --- |")
    right = model(x).argmax(1) == y
    ours_whole = floor_whole = theirs_whole = 0.0
    for attack in AutoAttack(Threat("linf", options.eps)).attacks(10):
        some, label = x[right], y[right]
        their_attack = reference(model, options.reference, attack.name, options.eps)
        for warm_up in (attack, lambda _, *examples: their_attack(*examples)):  # noqa: B023  # a GPU's code is loaded late
            warm_up(model, some[:1], label[:1])
        with noted(model) as calls:
            ours, x_adv = timed(clock, lambda: attack(model, some, label))  # noqa: B023
        floor, _ = timed(clock, lambda: by_hand(model, calls, some))  # noqa: B023
        theirs, their_adv = timed(clock, lambda: their_attack(some, label))  # noqa: B023
        left = model(x_adv).argmax(1) == label
        their_left = int((model(their_adv).argmax(1) == label).sum())
        print(
            f"| {attack.name} | {len(some)} | {ours:.2f} | {ours / floor:.3f} | {ours / theirs:.3f} "
            f"| {int(left.sum())}, {their_left} |",
            flush=True,
        )
        ours_whole, floor_whole, theirs_whole = ours_whole + ours, floor_whole + floor, theirs_whole + theirs
        right[right.nonzero().flatten()[~left]] = False
    print(
        f"| all | {len(x)} | {ours_whole:.2f} | {ours_whole / floor_whole:.3f} | {ours_whole / theirs_whole:.3f} "
        f"| {int(right.sum())} |"
    )


if __name__ == "__main__":
    main()
