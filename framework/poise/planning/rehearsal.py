"""One step, rehearsed on tensors without values: the code that trains, on nothing that takes memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from poise.batch import Batch
from poise.build import module_of
from poise.config import Config
from poise.data.blocks import check_sizes
from poise.data.dataset import Splits
from poise.data.loader import EvaluationLoader
from poise.data.module import DataModule
from poise.errors import UserError
from poise.given import Objects
from poise.module import TrainingModule
from poise.parts import load_model
from poise.planning.meters import Work, Worked
from poise.planning.nowhere import Zeros, nowhere
from poise.planning.stage import Peaks, Sizes, Stage
from poise.planning.traffic import Collective, ImaginedRanks
from poise.recipe import Passes
from poise.rules import Refusal

TRIED = 8  # rows that a stack is tried on before it is rehearsed, as before training
VALIDATION_STEPS = 10  # of the attack that validation makes


@dataclass(frozen=True)
class Rehearsal:
    """What one step of one rank does.

    Args:
        passes: of a micro-batch, as the recipes declare them.
        rows: examples of a micro-batch.
        sizes: what is held.
        peaks: what is held beside, at most.
        work: each operation of one micro-batch's step.
        validation: each operation of a validation batch.
        collectives: what the stack's members send.
        evaluated: validation batches of the whole run on one rank.
        refused: why the stack cannot train where weights are shared out; "" where it can.
        steps: optimiser steps of the whole run.
    """

    passes: Passes
    rows: int
    sizes: Sizes
    peaks: Peaks
    work: Sequence[Work]
    validation: Sequence[Work]
    collectives: Sequence[Collective]
    evaluated: int
    refused: str
    steps: int


def rehearse(config: Config, splits: Splits) -> Rehearsal:
    """Rehearse a run of a config on data of the same sizes.

    Raises:
        Refusal: a stack that cannot train so.
        UserError: data, model or settings that do not fit, or a model that looks at values.
    """
    with _told(config.model.name), Zeros():
        module = _module(config, splits)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with _told(config.model.name), nowhere(mode):
        module.model.to_empty(device="cpu")
        module.prepare(config.trainer.max_epochs)
        record = splits.train.fetch(torch.zeros(1, dtype=torch.int64))
        streams = {name: data.fetch(torch.zeros(1, dtype=torch.int64)) for name, data in splits.streams.items()}
        tried = module.receive(_rows(record, streams, TRIED))
        module.admit(tried, accumulate=config.trainer.accumulate)
        refused = _refusal(module, tried, config.trainer.accumulate)
    with _told(config.model.name):
        steps = _steps(config, module, splits)
    with _told(config.model.name), nowhere(mode):
        if config.trainer.precision == "64-true":
            module.double()
        return _rehearsed(config, module, partial(_rows, record, streams), refused, steps)


def _module(config: Config, splits: Splits) -> TrainingModule:
    """What trains, its weights on no device."""
    started = {"pretrained": False} if "pretrained" in config.model.params else {}
    fresh = replace(config.model, params={**config.model.params, **started}, checkpoint=None)
    with torch.device("meta"):
        model = load_model(replace(config, model=fresh), Objects(), splits)
    return module_of(config, Objects(), splits, model)


@contextmanager
def _told(model: str) -> Iterator[None]:
    """Shapes that hang on values, of which there are none, are said in a line."""
    try:
        yield
    except Refusal:
        raise
    except (RuntimeError, UserError) as error:
        if isinstance(error, UserError) and "meta" not in str(error):
            raise
        said = " ".join(str(error).split())[:100]
        raise UserError(
            f"model={model} or a recipe does what depends on the values of tensors, and a plan has none ({said}): only "
            "training it shows what it takes"
        ) from error


def _rows(record: Mapping[str, Tensor], streams: Mapping[str, Mapping[str, Tensor]], rows: int) -> dict[str, Any]:
    """A loader's record of so many examples like one."""
    made: dict[str, Any] = {name: value.new_empty((rows, *value.shape[1:])) for name, value in record.items()}
    return made | {"streams": {name: _rows(stream, {}, rows) for name, stream in streams.items()}}


def _refusal(module: TrainingModule, tried: Batch, accumulate: int) -> str:
    """Why the stack cannot train where no rank holds the whole weights."""
    try:
        module.ground.refuse(module.stack, tried, accumulate, whole_weights=False)
    except Refusal as refusal:
        return str(refusal)
    return ""


def _rehearsed(
    config: Config, module: TrainingModule, rows_of: Callable[[int], dict[str, Any]], refused: str, steps: int
) -> Rehearsal:
    trainer, stage = config.trainer, Stage(config, module)
    rows = check_sizes(trainer.batch_size, trainer.devices, trainer.accumulate, trainer.block_size)
    ranks, worked = ImaginedRanks(trainer.devices), Worked()
    peaks = stage.step(rows_of(rows), ranks, worked)
    assert module.splits is not None
    validating = EvaluationLoader(module.splits.val, trainer.eval_batch_size, trainer.devices)
    return Rehearsal(
        passes=module.stack.passes(),
        rows=rows,
        sizes=stage.sizes,
        peaks=peaks,
        work=worked.work,
        validation=_validation(module, rows_of(trainer.eval_batch_size)),
        collectives=ranks.calls,
        evaluated=trainer.max_epochs * validating.batches,
        refused=refused,
        steps=steps,
    )


def _validation(module: TrainingModule, record: dict[str, Any]) -> list[Work]:
    """The work of a batch: a pass, and where the stack attacks, validation's attack and a pass on what it finds."""
    x = module.receive(record).x
    model = module.model.eval()
    with Worked() as clean, torch.no_grad():
        model(x)
    if not module.attacks:
        return clean.work
    with Worked() as ascent:
        torch.autograd.grad(model(x.requires_grad_()).sum(), x)
    return [*clean.work, *VALIDATION_STEPS * ascent.work, *clean.work]


def _steps(config: Config, module: TrainingModule, splits: Splits) -> int:
    """Optimiser steps of the whole run."""
    trainer = config.trainer
    loader = DataModule(
        splits,
        trainer.batch_size,
        trainer.accumulate,
        config.seed,
        module.stack.replays,
        weights=partial(module.stack.sample_weights, module.task),
        block=trainer.block_size,
    ).train_dataloader()
    steps = trainer.max_epochs * len(loader) // trainer.accumulate
    return min(steps, trainer.max_steps or steps)
