"""What adversarial recipes cost over their passes: `python tests/benchmarks/adversarial.py` prints README.md's table.

The base of each line is a loop in plain PyTorch that makes the passes which the recipe's stack declares, and no others:
forwards without a graph, gradients of a cross-entropy with respect to the input, each with a step of signs inside ball
and range after it, and full backwards of its mean, on batches from the same loader. What a recipe does besides passes
(divergences, weights, contrasts, moved weights) is in its own time alone. Where an attack declares no pass it takes its
gradient from the full backward, which then goes on to the inputs in the base as well.
"""

import argparse
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from measure import HEADER, Meter, Ratio, clock_of, interleave, share_one_heap
from programs import SGD, THREAT, Job, Metered, Residual, poise
from torch import Tensor, nn

from poise import RecipeStack, registry
from poise.recipe import Passes, Recipe

ATTACKED = Job(side=16, width=32, batch_size=128, steps=2, turns=7)
SHORT = Job(side=16, width=64, batch_size=128, steps=3, turns=7)  # where a step has few passes
ON_A_GPU = Residual(side=32, width=0, batch_size=128, steps=3, turns=7, device="cuda")
CLOSED = frozenset({"layer:mixing"})  # what only a model of two trained ones has


def floor(job: Job, meter: Meter, passes: Passes, shared: bool) -> None:
    """The passes of a step, by hand; the attack's gradient is that of the full backward where they are shared."""
    model = job.model().to(job.device)
    optimizer = torch.optim.SGD(model.parameters(), **SGD)
    for batch in Metered(job, meter).train_dataloader():
        x, label = job.here(batch)
        x_adv = attacked(model.eval(), x, label, passes).requires_grad_(shared)
        model.train()
        losses = [F.cross_entropy(model(x_adv), label) for _ in range(passes.full_backwards)]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()


def attacked(model: nn.Module, x: Tensor, label: Tensor, passes: Passes) -> Tensor:
    """Inputs after as many steps up the gradient as there are input backwards, and the forwards that have no graph."""
    with torch.no_grad():
        for _ in range(passes.forwards - passes.input_backwards - passes.full_backwards):
            model(x)
    low, high = (x - THREAT.eps).clamp(0, 1), (x + THREAT.eps).clamp(0, 1)
    for _ in range(passes.input_backwards):
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), label, reduction="sum"), x)
        x = (x.detach() + THREAT.eps / 4 * gradient.sign()).clamp(low, high)
    return x


def over_floor(name: str, job: Job) -> Ratio:
    """A recipe, with those it brings and an objective if it has none, over its passes."""
    stack = stack_of(name)
    passes = stack.passes()
    shared = bool(stack.owners("attack")) and not passes.input_backwards
    by_hand = partial(floor, job, passes=passes, shared=shared)
    programs = {"poise": partial(poise, job, recipe=members(name)), "floor": by_hand}
    times = interleave(programs, job.steps, clock_of(job.device))
    made = f"{passes.forwards}, {passes.input_backwards}, {passes.full_backwards}"
    return Ratio(f"{','.join(stack.names)} ({job})", f"passes {made}", times["poise"], times["floor"], 1.05)


def stack_of(name: str) -> RecipeStack:
    """The stack that a recipe makes."""
    return RecipeStack(members(name))


def members(name: str) -> list[Recipe]:
    """A recipe, and another that trains on what it finds where none does."""
    found = [registry.build("recipe", name)]
    record = registry.records("recipe")[name]
    if "perturb_weights" in record.hooks:
        found.insert(0, registry.build("recipe", "pgd_at"))
    if "attack" in record.hooks and not record.brings:
        found.append(registry.build("recipe", "pgd_at"))
    return found


def names() -> list[str]:
    """The recipes of the family that any model can train."""
    records = registry.records("recipe").values()
    family = [record for record in records if ".adversarial." in record.qualified]
    return [record.name for record in family if not record.attributes["needs"] & CLOSED]


def comparisons(chosen: list[str], turns: int, device: str) -> Iterator[Ratio]:
    """The lines of the table."""
    for name in chosen:
        job = SHORT if stack_of(name).passes().forwards <= 2 else ATTACKED
        yield over_floor(name, replace(job if device == "cpu" else ON_A_GPU, turns=turns))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=SHORT.turns, help="of each program")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="on a GPU a ResNet-18 trains")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    parser.add_argument("--recipes", nargs="*", default=names(), help="of the family")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    share_one_heap()
    warnings.simplefilter("ignore")  # Lightning's advice on loaders and logging
    print(f"PyTorch {torch.__version__}, {options.threads} thread(s)\n\n{HEADER}", flush=True)
    for ratio in comparisons(options.recipes, options.turns, options.device):
        print(ratio.row(), flush=True)


if __name__ == "__main__":
    main()
