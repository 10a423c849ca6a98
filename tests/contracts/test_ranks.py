"""The rank rule over everything registered: the same parameters on one rank and on two.

In float64 to 1e-9, at the same global batch and block, with accumulation 1 and 2, for parameters that moved by at
least 1e-2; and a recipe that breaks the rule, to see that this test would notice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from contracts.kit import teaches_to_mix, two_models, user_of_the_attack
from poise import registry
from poise.batch import Batch
from poise.console import EVALUATING, without_chatter
from poise.data.dataset import Arrays, Splits
from poise.data.module import DataModule
from poise.distributed import current_ranks, full_state, strategy
from poise.models.small_cnn import small_cnn
from poise.module import TrainingModule
from poise.optimizers.sgd import sgd
from poise.recipe import Recipe
from poise.rules import Refusal
from poise.schedules.constant import constant
from poise.stack import RecipeStack
from poise.step import Step
from ranks import Pair

TOLERANCE, MOVED = 1e-9, 1e-2
ZERO_TOLERANCE = 1e-5
BATCH, BLOCK, STEPS_PER_EPOCH, EPOCHS = 16, 4, 2, 2
CLASSES, GROUPS = 3, 4
NAMED_STACKS = (
    "trades,mixup,group_dro",
    "trades,awp,group_dro,mixup",
    "pgd_at,awp,mixup",
    "projection_head,trades,mixup",
)
ZERO_STACKS = ("ema,trades", "awp,trades", "group_dro,trades")


class KeyedByRank(Recipe):
    """Breaks the rule on purpose: its noise depends on the rank that draws it."""

    def mix(self, batch: Batch, step: Step) -> Batch:
        generator = torch.Generator().manual_seed(1000 * step.ranks.rank + step.global_step)
        noise = 0.1 * torch.rand(batch.x.shape, dtype=batch.x.dtype, generator=generator)
        return batch.replace(x=(batch.x + noise).clamp(0, 1))


def rows(count: int, seed: int) -> Arrays:
    """Pictures whose class, and a little of whose group, can be learnt."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(CLASSES, (count,), generator=generator)
    group = torch.randint(GROUPS, (count,), generator=generator)
    x = 0.5 * torch.rand(count, 1, 8, 8, generator=generator)
    x[torch.arange(count), 0, label] += 0.5
    return Arrays(x, label, group)


def splits(streams: Sequence[str]) -> Splits:
    """Data with all that a recipe may ask of data."""
    return Splits(
        train=rows(BATCH * STEPS_PER_EPOCH + 5, 0),
        val=rows(12, 1),
        calibration=rows(12, 2),
        test=rows(12, 3),
        num_classes=CLASSES,
        class_names=tuple("abc"),
        group_names=tuple("klmn"),
        streams={name: Arrays(rows(20, 4).x, torch.full((20,), -1)) for name in streams},
    )


@dataclass(frozen=True)
class Stack:
    """Recipes by name, and what the data and an earlier run have to give them."""

    names: tuple[str, ...]
    streams: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()

    def members(self) -> dict[str, Recipe]:
        return {
            name: KeyedByRank() if name == KeyedByRank.__name__ else registry.build("recipe", name)
            for name in self.names
        }

    def module(self, seed: int = 0, precision: str = "64-true") -> TrainingModule:
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(5)
        data = splits(self.streams)
        tables = {name: torch.rand(len(data.train), generator=generator) for name in self.tables}
        return TrainingModule(
            two_models() if teaches_to_mix(self.names) else small_cnn(CLASSES, (1, 8, 8), width=4),
            RecipeStack(self.members()),
            optimizer=partial(sgd, lr=0.5, momentum=0.0),
            schedule=constant,
            seed=seed,
            block=BLOCK,
            splits=data,
            tables=tables,
        )

    @property
    def stack(self) -> RecipeStack:
        return RecipeStack(self.members())

    @property
    def couples(self) -> bool:
        """Whether a micro-batch's loss is not the mean of its examples'."""
        relative = {name for name, member in self.stack.owners("weigh") if member.relative}
        return bool(relative) or any(member.couples_batch for _, member in self.stack.items())

    @property
    def accumulates(self) -> bool:
        whole = any("whole_batch" in member.needs for _, member in self.stack.items())
        return self.stack.replays == 1 and not whole


def run_gives(capability: str) -> bool:
    known = ("index", "groups", "features", "layers", "clean", "whole_batch", "whole_weights", "predict")
    return capability in (*known, "class_counts", "group_counts") or capability.startswith(("table:", "layer:"))


def completed(*names: str) -> Stack:
    """A stack that can train: with a partner for each need that other recipes meet, streams for the rest."""
    records, members = registry.records("recipe"), list(names)
    streams: set[str] = set()
    tables: set[str] = set()
    for _ in range(5):
        present = RecipeStack({name: registry.build("recipe", name) for name in members})
        have = set[str]().union(*(member.provides for _, member in present.items()))
        needs = set[str]().union(*(member.needs for _, member in present.items()))
        tables |= {need.removeprefix("table:") for need in needs if need.startswith("table:")}
        open_needs = sorted(need for need in needs - have if not run_gives(need))
        if not open_needs and "attack" not in have and (uncalled := unheard(tuple(members), streams, tables)):
            open_needs = [uncalled]
        missing = [need for need in open_needs if need not in streams]
        if not missing and (user := user_of_the_attack(members)):
            members.append(user)
            continue
        if not missing:
            return Stack(tuple(members), tuple(sorted(streams)), tuple(sorted(tables)))
        partners = [name for name, record in records.items() if missing[0] in record.provides]
        fitting = [name for name in partners if builds([*members, name])]
        if fitting:
            members.append(fitting[0])
        else:
            streams.add(missing[0])
    raise AssertionError(f"no partners complete {names}")


def unheard(names: tuple[str, ...], streams: set[str], tables: set[str]) -> str | None:
    """What could make a hook be called that nobody calls yet: an attack."""
    try:
        admitted(Stack(names, tuple(streams), tuple(tables)))
    except Refusal as refusal:
        return "attack" if refusal.reason == "never called" else None
    return None


def builds(names: Sequence[str]) -> bool:
    try:
        RecipeStack({name: registry.build("recipe", name) for name in names})
    except Refusal:
        return False
    return True


def admitted(stack: Stack) -> TrainingModule:
    module = stack.module()
    module.prepare(EPOCHS)
    data: dict[str, Any] = dict(module.splits.train.fetch(torch.arange(4)))  # type: ignore[union-attr]
    data["streams"] = {n: s.fetch(torch.arange(4)) for n, s in module.splits.streams.items()}  # type: ignore[union-attr]
    module.admit(module.receive(data))
    return module


def trained(
    stack: Stack,
    accumulate: int = 1,
    strategy_name: str = "auto",
    precision: Any = "64-true",
) -> dict[str, Tensor]:
    """All of the module's state after a few steps, but for what belongs to a rank; "moved" is how far it went."""
    size = current_ranks().size
    module = stack.module()
    module.prepare(EPOCHS)
    start = {name: p.detach().clone().double() for name, p in module.model.named_parameters()}
    data = DataModule(
        module.splits,  # type: ignore[arg-type]
        BATCH,
        accumulate=accumulate,
        replays=module.stack.replays,
        weights=partial(module.stack.sample_weights, module.task),
        block=BLOCK,
    )
    with without_chatter(*([EVALUATING] if module.model.keeps else [])):
        trainer = L.Trainer(
            max_epochs=EPOCHS,
            accelerator="cpu",
            devices=size,
            strategy=strategy(
                strategy_name,
                world_size=size,
                accelerator="cpu",
                precision=precision,
                find_unused_parameters=any(m.unused_parameters for _, m in module.stack.items()),
            ),
            precision=precision,
            accumulate_grad_batches=accumulate,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            use_distributed_sampler=False,
            inference_mode=False,
        )
        trainer.fit(module, data)
    steps = STEPS_PER_EPOCH * EPOCHS * module.stack.replays
    assert module.stack.owners("sample_weights") or trainer.global_step == steps
    state = full_state(trainer, module)
    moved = max(float((state[f"model.{n}"].double() - p).abs().max()) for n, p in start.items())
    own = {f"stack.members.{name}.{b}" for name, m in module.stack.items() for b in m.per_rank}
    return {n: v for n, v in state.items() if n not in own} | {"moved": torch.tensor(moved)}


def distance(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """The largest difference of any parameter or buffer."""
    assert one.keys() == other.keys()
    return max(
        float((one[name].double() - other[name].double()).abs().max())
        for name in one
        if name != "moved" and one[name].numel()
    )


def in_ranks(of_stack: tuple[Any, ...], accumulations: Sequence[int]) -> dict[int, dict[str, Tensor]]:
    """What `trained` gives for each accumulation, in a rank process."""
    stack = Stack(*of_stack)
    return {accumulate: trained(stack, accumulate) for accumulate in accumulations}


def ddp_and_zero(of_stack: tuple[Any, ...]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """float32 on these ranks: DDP's state and ZeRO-2's."""
    stack = Stack(*of_stack)
    options: dict[str, Any] = {"precision": "32-true"}
    return trained(stack, 1, "ddp", **options), trained(stack, 1, "deepspeed_zero2", **options)


def compare(pair: Pair, stack: Stack) -> None:
    accumulations = (1, 2) if stack.accumulates else (1,)
    ours = {accumulate: trained(stack, accumulate) for accumulate in accumulations}
    first, second = pair.run(in_ranks, astuple(stack), accumulations)
    assert ours[1]["moved"] >= MOVED
    for accumulate in accumulations:
        assert distance(first[accumulate], second[accumulate]) == 0, "the ranks differ from each other"
        assert distance(ours[accumulate], first[accumulate]) <= TOLERANCE, f"accumulation {accumulate}"
    if len(accumulations) == 2 and not stack.couples:
        assert distance(ours[1], ours[2]) <= TOLERANCE, "accumulation changes the result"


@pytest.mark.parametrize("name", registry.records("recipe"))
def test_a_recipe_gives_the_same_parameters_on_one_rank_and_on_two(pair: Pair, name: str) -> None:
    compare(pair, completed(name))


@pytest.mark.parametrize("names", NAMED_STACKS)
def test_stacks_give_the_same_parameters_on_one_rank_and_on_two(pair: Pair, names: str) -> None:
    compare(pair, Stack(tuple(names.split(","))))


def test_noise_keyed_by_rank_is_found_out(pair: Pair) -> None:
    stack = Stack((KeyedByRank.__name__,))
    ours, (first, _) = trained(stack), pair.run(in_ranks, astuple(stack), (1,))
    assert distance(ours, first[1]) > 1e3 * TOLERANCE
    with pytest.raises(AssertionError, match="accumulation 1"):
        compare(pair, stack)


@pytest.mark.parametrize("names", ZERO_STACKS)
def test_zero_trains_as_ddp_does_on_the_same_ranks(pair: Pair, names: str) -> None:
    (ddp, zero), (ddp_second, zero_second) = pair.run(ddp_and_zero, astuple(Stack(tuple(names.split(",")))))
    assert ddp["moved"] >= MOVED
    assert distance(ddp, ddp_second) == distance(zero, zero_second) == 0
    assert distance(ddp, zero) <= ZERO_TOLERANCE
