"""Recipes by strategy: each trains on two ranks as it does under DDP, or is refused at the start with its reason.

launch/README.md has the table.
"""

import gc
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from contracts import kit
from poise import registry
from poise.distributed import full_state, strategy
from poise.rules import Refusal
from poise.strategies import ZERO, zero_stage
from ranks import Pair
from written import hold

STRATEGIES = [name for name in ("ddp", *ZERO) if not name.endswith("_offload")]  # what lies elsewhere counts the same
TOLERANCE, MOVED = 1e-6, 1e-3
RECORDS = registry.records("recipe")
OURS = [name for name, record in RECORDS.items() if record.qualified.startswith("poise_recipes.")]
PATH = Path(__file__).parents[2] / "launch" / "README.md"
HEADING = "as under DDP or is refused before ranks are started:\n\n"
SHARED_OUT = '{"zero_optimization": {"stage3_param_persistence_threshold": 0}}'  # small parameters too

TRAINS = "trains"

Found = dict[str, Tensor] | str


def outcomes(names: tuple[str, ...], own: str) -> dict[str, Found]:
    """What a stack's state is after two steps under each strategy, or the line that refuses it."""
    gc.freeze()  # DeepSpeed collects garbage at each start, among all that was imported
    try:
        return {name: trained(names, name, own) for name in STRATEGIES}
    finally:
        gc.unfreeze()


def trained(names: tuple[str, ...], strategy_name: str, own: str) -> Found:
    made = kit.module(names, kit.kind_for(names, "image"))
    start = kit.state(made)
    try:
        made.admit(made.receive(kit.record()), whole_weights=zero_stage(strategy_name) != 3)
    except Refusal as refusal:
        return str(refusal)
    chosen = strategy(
        strategy_name,
        world_size=2,
        accelerator="cpu",
        find_unused_parameters=any(member.unused_parameters for _, member in made.stack.items()),
        deepspeed=own if zero_stage(strategy_name) == 3 else None,
    )
    trainer = kit.fit(made, steps=2, settings={"devices": 2, "strategy": chosen, "limit_val_batches": 0})
    state = full_state(trainer, made)
    far = max(float((state[name] - start[name]).abs().max()) for name, _ in made.model.named_parameters(prefix="model"))
    return state | {"moved": torch.tensor(far)}


def distance(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """The largest difference of any parameter or buffer."""
    assert one.keys() == other.keys()
    return max(
        float((value.double() - other[name].double()).abs().max()) for name, value in one.items() if value.numel()
    )


def cell(found: Found, under_ddp: dict[str, Tensor]) -> str:
    """A table's cell: whether it trains as under DDP, or what it lacks."""
    if isinstance(found, str):
        return found.partition(":")[0]
    return TRAINS if distance(under_ddp, found) <= TOLERANCE else f"differs by {distance(under_ddp, found):.1e}"


@pytest.fixture(scope="module")
def rows(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What becomes of every registered recipe under every strategy."""
    own = tmp_path_factory.mktemp("settings") / "shared_out.json"
    own.write_text(SHARED_OUT)
    made = {}
    for name in RECORDS:
        found = pair.run(outcomes, kit.with_partners(name), str(own))[0]
        under_ddp = found["ddp"]
        assert isinstance(under_ddp, dict), under_ddp
        assert under_ddp["moved"] >= MOVED
        made[name] = {chosen: cell(found[chosen], under_ddp) for chosen in STRATEGIES}
    return made


def table(rows: Mapping[str, Mapping[str, str]]) -> str:
    """The recipes that are poise's own, by strategy."""
    lines = [f"| recipe | {' | '.join(f'`{name}`' for name in STRATEGIES)} |", "| --- |" + " --- |" * len(STRATEGIES)]
    lines += [f"| `{name}` | {' | '.join(rows[name].values())} |" for name in OURS]
    return "\n".join(lines)


@pytest.mark.parametrize("name", RECORDS)
def test_a_recipe_trains_as_under_ddp_or_is_refused(rows: dict[str, dict[str, str]], name: str) -> None:
    whole = {f"{member} needs `whole_weights`" for member in kit.with_partners(name)}
    for chosen, what in rows[name].items():
        assert what == TRAINS or (what in whole and zero_stage(chosen) == 3), chosen


def test_the_table_of_strategies_is_what_was_found(rows: dict[str, dict[str, str]]) -> None:
    before, heading, after = PATH.read_text(encoding="utf-8").partition(HEADING)
    hold(PATH, before + heading + table(rows) + after[after.index("\n\n") :])
