"""Adversarial losses beside their authors' code: `python tests/benchmarks/official.py --trades=CHECKOUT …`.

CHECKOUTs are clones of yaodongyu/TRADES, YisenWang/MART, OmnAI-Lab/Robust-Classifiers-under-the-lens-of-EBM,
zjfheart/Geometry-aware-Instance-reweighted-Adversarial-Training and csdongxian/AWP. Both attack the same network with
batch norm, on the same inputs, from the same noise, in double precision on a CPU. No line of theirs is changed for it:
what would move to a GPU, fall back to single precision, draw noise, or shorten a vector by 1e-7 too much (PyTorch's
`renorm_`) is given to them instead. The inputs are so far inside their range that the order in which an attack is
clipped to range and radius does not matter.
"""

import argparse
import copy
import importlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poise import Batch, RecipeStack, Step, Threat
from poise.models.classifier import Classifier
from poise.models.small_bn_cnn import small_bn_cnn
from poise.recipe import Recipe
from poise_recipes import AWP, GAIRAT, MART, PGD, PGDAT, WEAT, Trades

ROWS, SIDE, CLASSES, STEPS = 32, 16, 10, 10
LINF, L2 = Threat("linf", 0.031), Threat("l2", 0.25)
SIZE = {"linf": 0.007, "l2": 2 * L2.eps / STEPS}

Theirs = Callable[[nn.Module, Batch, Tensor], Tensor]


def network() -> Classifier:
    """Sure of some inputs and unsure of others, with batch norm whose running statistics are not those of its start."""
    torch.manual_seed(0)
    made = small_bn_cnn(CLASSES, (3, SIDE, SIDE), width=8).double().train()
    with torch.no_grad():
        made(batch().x)
        for weight in made.head.parameters():
            weight.mul_(8)
    return made


def batch() -> Batch:
    """Inputs in [0.1, 0.9] and labels."""
    keyed = torch.Generator().manual_seed(1)
    x = 0.1 + 0.8 * torch.rand(ROWS, 3, SIDE, SIDE, generator=keyed, dtype=torch.float64)
    return Batch.of(x, torch.randint(CLASSES, (ROWS,), generator=keyed), CLASSES)


def attack(threat: Threat, start: str = "normal") -> PGD:
    """That of all the scripts."""
    return PGD(STEPS, SIZE[threat.norm], start)  # type: ignore[arg-type]


def ours(recipes: list[Recipe], threat: Threat) -> tuple[Tensor, list[Tensor]]:
    """The loss of a stack after its attack, and the gradient of each parameter."""
    model, stack = network(), RecipeStack(recipes)
    step = Step(model, stack, threat=threat, progress=1.0)
    loss = stack.loss(stack.attack(batch(), step), step)()
    return loss, gradient(loss, model)


def gradient(loss: Tensor, model: nn.Module) -> list[Tensor]:
    """Of each parameter."""
    return list(torch.autograd.grad(loss, list(model.parameters())))


@contextmanager
def in_double_on_a_cpu(noise: Tensor) -> Iterator[None]:
    """What their code asks of a GPU, of single precision and of generators."""

    def same(tensor: Tensor, *_: Any, **__: Any) -> Tensor:
        return tensor

    def shortened(tensor: Tensor, p: int, dim: int, maxnorm: float) -> Tensor:
        length = tensor.flatten(1).norm(p, 1).clamp(min=maxnorm)
        return tensor.mul_((maxnorm / length).view(-1, *[1] * (tensor.ndim - 1)))

    with (
        patch.object(torch.Tensor, "cuda", same),
        patch.object(torch.Tensor, "float", same),
        patch.object(torch.Tensor, "renorm_", shortened),
        patch("torch.randn", lambda *_, **__: noise.clone()),
        patch("numpy.random.uniform", lambda low, high, shape: (high * noise).numpy()),
    ):
        yield


def compare(name: str, recipes: list[Recipe], theirs: Theirs, threat: Threat = LINF) -> str:
    """One line of the first table."""
    model, given = network(), batch()
    step = Step(model).bound("pgd")
    normal, uniform = step.normal(given, given.x, "start"), 2 * step.uniform(given, given.x, "start") - 1
    with in_double_on_a_cpu(uniform if any(isinstance(r, GAIRAT) for r in recipes) else normal):
        other = theirs(model, given, given.label)
    loss, slopes = ours(recipes, threat)
    apart = max(float((a - b).abs().max()) for a, b in zip(slopes, gradient(other, model), strict=True))
    mine, yours, between = (float(value.detach()) for value in (loss, other, (loss - other).abs()))
    largest = max(float(slope.abs().max()) for slope in slopes)
    return f"| {name} | {mine:.9f} | {yours:.9f} | {between:.0e} | {largest:.2f} | {apart:.0e} |"


def loss_of(function: Any, threat: Threat = LINF, **parameters: Any) -> Theirs:
    """Their loss functions, which attack as well."""

    def theirs(model: nn.Module, given: Batch, label: Tensor) -> Tensor:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        settings = {"step_size": SIZE[threat.norm], "epsilon": threat.eps, "perturb_steps": STEPS, **parameters}
        return function(model, given.x, label, optimizer, **settings)

    return theirs


def gairat(attacks: ModuleType, weights: ModuleType) -> Theirs:
    """Their attack and weights, put together as in their script, which cannot be imported."""

    def theirs(model: nn.Module, given: Batch, label: Tensor) -> Tensor:
        size = SIZE["linf"]
        x_adv, kappa = attacks.GA_PGD(model, given.x, label, LINF.eps, size, STEPS, "cent", "Madry", rand_init=True)
        weight = weights.GAIR(STEPS, kappa.double(), -1.0, "Tanh")
        return F.cross_entropy(model.train()(x_adv), label, reduction="none").mul(weight).mean()

    return theirs


def losses(options: argparse.Namespace) -> Iterator[str]:
    """The lines of the first table, for the checkouts that are given."""
    if options.trades:
        (module,) = loaded(options.trades, "trades")
        for threat, distance in ((LINF, "l_inf"), (L2, "l_2")):
            theirs = loss_of(module.trades_loss, threat, beta=6.0, distance=distance)
            yield compare(f"TRADES, {threat.norm}", [Trades(6.0), attack(threat)], theirs, threat)
    if options.mart:
        (module,) = loaded(options.mart, "mart")
        yield compare("MART", [MART(5.0), attack(LINF)], loss_of(module.mart_loss, beta=5.0))
    if options.weat:
        (module,) = loaded(f"{options.weat}/Adversarial ML", "WEAT_loss")
        for name, label_on in (("WEAT_nat", "clean"), ("WEAT_adv", "attacked")):
            stack: list[Recipe] = [WEAT(), Trades(6.0, label_on), attack(LINF)]  # type: ignore[arg-type]
            yield compare(name, stack, loss_of(getattr(module, name), beta=6.0))
    if options.gairat:
        theirs = gairat(*loaded(options.gairat, "attack_generator", "GAIR"))
        yield compare("GAIRAT", [GAIRAT(-1.0), PGDAT(), attack(LINF, "uniform")], theirs)


def perturbed(options: argparse.Namespace) -> Iterator[str]:
    """The lines of the second table: AWP's weights on one attacked batch."""
    if not options.awp:
        return
    given = batch()
    given = given.replace(x_adv=(given.x + LINF.eps * torch.randn(given.x.shape, dtype=torch.float64).sign()))
    for name, gamma, host, folder, kind, more in (
        ("PGD-AT", 0.01, PGDAT(), "AT_AWP", "AdvWeightPerturb", ()),
        ("TRADES", 0.005, Trades(6.0), "trades_AWP", "TradesAWP", (given.x,)),
    ):
        (module,) = loaded(f"{options.awp}/{folder}", "utils_awp")
        model, theirs = network(), network()
        stack = RecipeStack([host, AWP(gamma)])
        step = Step(model, stack)
        stack.perturb_weights(stack.loss(given, step), step)
        proxy = copy.deepcopy(theirs)
        adversary = getattr(module, kind)(theirs, proxy, torch.optim.SGD(proxy.parameters(), lr=0.01), gamma)
        inputs = (given.attacked, *more, given.label, *([6.0] if more else []))
        adversary.perturb(adversary.calc_awp(*inputs))
        yield moved(f"AWP on {name}", network().state_dict(), model, theirs)


def moved(name: str, before: Mapping[str, Tensor], model: nn.Module, theirs: nn.Module) -> str:
    """One line: how far the weights went, and how far apart they and the batch statistics are."""
    after, other = model.state_dict(), theirs.state_dict()
    way = max(float((after[n] - value).abs().max()) for n, value in before.items())
    apart = max(float((after[n] - other[n]).abs().max()) for n in before)
    return f"| {name} | {way:.4f} | {apart:.0e} |"


def loaded(folder: str, *names: str) -> list[ModuleType]:
    """Modules of a checkout; forgotten at once, for others have modules of the same names."""
    sys.path.insert(0, folder)
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(folder)
        inside = Path(folder).resolve()
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if file and inside in Path(file).resolve().parents:
                del sys.modules[name]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("trades", "mart", "weat", "gairat", "awp"):
        parser.add_argument(f"--{name}", metavar="CHECKOUT", help="of the authors' code")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # their code is from other times
    print(f"PyTorch {torch.__version__}\n")
    print("| loss | ours | theirs | apart by | largest gradient | gradients apart by |\n|" + " --- |" * 6)
    for line in losses(options):
        print(line, flush=True)
    print("\n| weights | moved by | apart by |\n|" + " --- |" * 3)
    for line in perturbed(options):
        print(line, flush=True)


if __name__ == "__main__":
    main()
