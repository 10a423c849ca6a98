"""Where a step works: on the device alone, without waiting for it; on a GPU where there is one."""

import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from contracts import kit, nowhere
from contracts.nowhere import Waits
from gpus import needs_gpus
from poise import registry
from poise.batch import Batch, Outcome
from poise.distributed import Ranks
from poise.recipe import Recipe
from poise.stack import RecipeStack
from poise.step import Step

RECORDS = registry.records("recipe")
every_recipe = pytest.mark.parametrize("name", RECORDS)


@every_recipe
def test_no_step_waits_for_its_device_or_leaves_it(name: str) -> None:
    nowhere.train_nowhere(kit.admitted(kit.with_partners(name), kit.kinds_of(name)[0]))


@needs_gpus()
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_every_recipe_trains_on_a_gpu_without_waiting(precision: str) -> None:
    assert {name: wrong for name in RECORDS if (wrong := wrong_on_a_gpu(name, precision))} == {}


def wrong_on_a_gpu(name: str, precision: str) -> str:
    """Why a recipe does not train there; nothing if it does."""
    made = kit.admitted(kit.with_partners(name), kit.kinds_of(name)[0])
    try:
        nowhere.take_steps(made, [refusing_to_wait], accelerator="cuda", precision=precision)
    except RuntimeError as error:
        return "".join(traceback.format_exception(error, limit=-4))
    if not (made._batch.x.is_cuda and kit.finite(made)):
        return "not on the device, or not finite"
    tables = made.cuda().stack.after_fit(made.detached_step(Ranks()))
    return "" if all(torch.isfinite(table).all() for table in tables.values()) else "tables that are not finite"


@contextmanager
def refusing_to_wait() -> Iterator[None]:
    """CUDA's own watch over whoever waits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it does not see every wait
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class Reads(Recipe):
    """Does one thing in each step that a GPU would be waited for."""

    def __init__(self, wait: Any) -> None:
        super().__init__()
        self.wait = wait

    def objective(self, batch: Batch, step: Step) -> Outcome:
        clean = step.forward(batch.x, batch)
        self.wait(clean.logits.detach())
        return Outcome(step.loss(clean.logits, batch), clean=clean)


WAITS = {
    "a value": lambda logits: float(logits.mean()),
    "a branch": lambda logits: logits.sum() if (logits > 0).any() else logits,
    "a mask as an index": lambda logits: logits[logits > 0],
    "a copy to the host": lambda logits: logits.cpu(),
    "a copy from the host": lambda logits: torch.ones(3).to(logits.device),
    "a number as a tensor": lambda logits: torch.tensor(0.5, device=logits.device),
    "a list as a tensor": lambda logits: logits.new_tensor([1.0, 2.0]),
    "an index on the host": lambda logits: logits[torch.arange(2)],
    "an operand on the host": lambda logits: logits * torch.ones(logits.shape),
    "draws by weight": lambda logits: torch.multinomial(logits.softmax(1), 1),
    "counts": lambda logits: torch.bincount(logits.argmax(1)),
}


@pytest.mark.parametrize("what", WAITS)
def test_what_waits_is_found(what: str) -> None:
    def wait(logits: Tensor) -> object:
        return WAITS[what](logits) if logits.is_meta else None  # not in the trial step

    made = kit.module()
    made.stack = RecipeStack({"reads": Reads(wait)})
    with pytest.raises((Waits, RuntimeError, NotImplementedError), match=r"aten|tensor|meta|device"):
        nowhere.train_nowhere(made)
