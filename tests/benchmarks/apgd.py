"""Auto-PGD beside its authors' code: the same points step by step, the same verdict, and what it costs.

    python tests/benchmarks/apgd.py <checkout of fra31/auto-attack> [--pictures=100]

needs POISE_DATA with mnist.npz; prints the tables of README.md. Of the authors' code, three things are put right where
points are compared: the first step is counted against the loss at the start, not against zero; a value that rounding
moved counts as unchanged; projections are made in double precision.
"""

import argparse
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poise.attacks import APGD, TargetedAPGD, Threat
from poise.attacks.apgd_targeted import most_likely_wrong
from poise.attacks.attack import Attack
from poise.attacks.climb import Landscape, climb
from poise.attacks.margins import dlr, targeted_dlr

THREATS = (Threat("linf", 0.3), Threat("l2", 2.0), Threat("l1", 10.0))
STEPS = 100


@dataclass(frozen=True)
class Run:
    """What one run of 100 steps passed through.

    Args:
        points: of each pass [steps + 1, N, *input].
        best: the points of the greatest loss.
        loss: at them.
        wrong: which examples were broken.
    """

    points: Tensor
    best: Tensor
    loss: Tensor
    wrong: Tensor


@contextmanager
def points_of(model: nn.Module) -> Iterator[list[Tensor]]:
    """The inputs of all passes meanwhile."""
    seen: list[Tensor] = []
    handle = model.register_forward_hook(lambda module, inputs, logits: seen.append(inputs[0].detach().clone()))
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def in_double(theirs: Any) -> Iterator[None]:
    """Their code in double precision; changes that rounding made are none, and two thirds of a count are exact."""
    single, count = Tensor.float, theirs.L0_norm
    torch.set_default_dtype(torch.float64)
    Tensor.float = Tensor.double  # type: ignore[method-assign]
    theirs.L0_norm = lambda change: (change.abs() > 1e-12).flatten(1).sum(1) * (1 - 1e-12)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        Tensor.float = single  # type: ignore[method-assign]
        theirs.L0_norm = count


def their_run(theirs: Any, model: nn.Module, kind: str, threat: Threat, at: dict[str, Tensor]) -> Run:
    """One run of theirs from a start."""
    base = theirs.APGDAttack_targeted if kind == "targeted" else theirs.APGDAttack
    first = losses(kind, model(at["start"]).detach(), at["y"], at["target"])

    class Counted(base):  # type: ignore[misc]
        def check_oscillation(self, x: Tensor, j: int, k: int, y5: Tensor, k3: float = 0.75) -> Tensor:
            if j + 1 == k:
                x[-1] = first
            return super().check_oscillation(x, j, k, y5, k3)

    norm = {"linf": "Linf", "l2": "L2", "l1": "L1"}[threat.norm]
    options = {} if kind == "targeted" else {"loss": kind}
    attack = Counted(model, n_iter=STEPS, norm=norm, eps=threat.eps, device="cpu", **options)
    attack.init_hyperparam(at["x"])
    attack.y_target = at["target"]
    with in_double(theirs), points_of(model) as seen:
        best, right, loss, _ = attack.attack_single_run(at["x"], at["y"], x_init=at["start"])
    return Run(torch.stack(seen), best.detach(), loss, ~right.bool())


def our_run(model: nn.Module, kind: str, threat: Threat, at: dict[str, Tensor]) -> Run:
    """One run of ours from the same start."""
    y, target = at["y"], at["target"]
    landscape = Landscape(model, y, lambda logits, rows: losses(kind, logits, y[rows], target[rows]))
    with points_of(model) as seen:
        found = climb(landscape, threat, at["x"], at["start"], STEPS, until_broken=False)
    return Run(torch.stack(seen), found.best, found.loss, found.wrong)


def losses(kind: str, logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """By example, of the kind."""
    if kind == "targeted":
        return targeted_dlr(logits, y, target)
    return dlr(logits, y) if kind == "dlr" else F.cross_entropy(logits, y, reduction="none")


def compared(theirs: Any, model: nn.Module, kind: str, threat: Threat, x: Tensor, y: Tensor) -> str:
    """One line of the first table."""
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    at = {"x": x, "y": y, "start": threat.edge(x, 2 * noise - 1), "target": most_likely_wrong(model, x, y, 1)[0]}
    ours, other = our_run(model, kind, threat, at), their_run(theirs, model, kind, threat, at)
    apart = (ours.points - other.points).abs().flatten(2).amax(2)  # [steps + 1, N]
    together = apart.amax(0) < 1e-6
    parted = (apart[:, ~together] >= 1e-6).int().argmax(0)
    cells = (
        f"{threat.norm}, {kind}",
        f"{int(together.sum())} of {len(x)}",
        f"{largest(apart[:, together]):.0e}",
        f"{largest((ours.loss - other.loss)[together].abs()):.0e}",
        f"{int(parted.min()) if len(parted) else '-'}",
        f"{int((ours.wrong == other.wrong).sum())} of {len(x)}",
    )
    return f"| {' | '.join(cells)} |"


def largest(values: Tensor) -> float:
    """NaN of none."""
    return float(values.max()) if values.numel() else torch.nan


def attacks(threat: Threat) -> list[Attack]:
    """Ours, with the budgets of AutoAttack's standard version but for one restart."""
    return [APGD(threat), APGD(threat, "dlr"), TargetedAPGD(threat, targets=5 if threat.norm == "l1" else 9)]


def their_attack(theirs: Any, model: nn.Module, attack: Attack) -> Callable[[Tensor, Tensor], Tensor]:
    """The same of theirs."""
    norm = {"linf": "Linf", "l2": "L2", "l1": "L1"}[attack.threat.norm]
    options: dict[str, Any] = {"eps": attack.threat.eps, "device": "cpu", "use_largereps": norm == "L1"}
    if isinstance(attack, TargetedAPGD):
        options["n_target_classes"] = attack.targets
        return theirs.APGDAttack_targeted(model, norm=norm, **options).perturb
    return theirs.APGDAttack(model, norm=norm, loss=attack.name.removeprefix("apgd-"), **options).perturb


def beside(theirs: Any, shared: Any, model: nn.Module, attack: Attack, x: Tensor, y: Tensor, turns: int) -> str:
    """One line of the second table; the programs take turns, and the median ratio counts."""
    with shared.noted(model) as calls:
        found = attack(model, x, y)
    ratios = []
    for _ in range(turns):
        ours, _ = shared.timed(lambda: attack(model, x, y))
        floor = shared.by_hand(model, calls, x)
        other, their = shared.timed(lambda: their_attack(theirs, model, attack)(x, y))
        ratios.append((ours / floor, ours / other, ours))
    over_floor, over_theirs, seconds = (sorted(column)[turns // 2] for column in zip(*ratios, strict=True))
    wrong, their_wrong = model(found).argmax(1) != y, model(their).argmax(1) != y
    cells = (
        f"{attack.threat.norm}, {attack.name}",
        f"{seconds:.2f}",
        f"{over_floor:.3f}",
        f"{over_theirs:.3f}",
        f"{int((~wrong).sum())}, {int((~their_wrong).sum())}",
        f"{(wrong == their_wrong).float().mean():.1%}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path, help="checkout of fra31/auto-attack")
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--turns", type=int, default=3, help="of each program")
    parser.add_argument("--width", type=int, default=8, help="of small_cnn")
    parser.add_argument(
        "--model",
        type=Path,
        default=Path(tempfile.gettempdir(), "poise-benchmarks", "mnist-trades"),
        help="where it is kept",
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    shared = beside_this("autoattack.py")
    sys.path.insert(0, str(options.reference))
    from autoattack import autopgd_base as theirs  # type: ignore[import-not-found]

    model = shared.trained(options.model, options.width).eval()
    x, y = shared.pictures(options.pictures)
    right = model(x).argmax(1) == y
    x, y = x[right], y[right]
    print("| run of 100 steps | the same points | points apart by | losses apart by | first parted at | same verdict |")
    print("| --- | --- | --- | --- | --- | --- |")
    for threat in THREATS:
        for kind in ("ce", "dlr", "targeted"):
            print(compared(theirs, model.double(), kind, threat, x.double(), y), flush=True)
    print("\n| attack | s | over the passes by hand | over the reference | right, reference's | same verdict |")
    print("| --- | --- | --- | --- | --- | --- |")
    for threat in THREATS:
        for attack in attacks(threat):
            print(beside(theirs, shared, model.float(), attack, x, y, options.turns), flush=True)


def beside_this(name: str) -> Any:
    """A program of this directory under a name that the authors' package does not have."""
    loader = SourceFileLoader(f"beside_{Path(name).stem}", str(Path(__file__).with_name(name)))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
