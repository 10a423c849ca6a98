"""What every registered recipe keeps, whoever wrote it: nobody is named here.

A recipe that cannot train alone is given partners that provide what it needs; see `kit.with_partners`.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from contracts import docstrings, kit
from poise import registry
from poise.batch import Batch
from poise.distributed import strategy
from poise.module import TrainingModule
from poise.registry import Parameter, Record
from poise.rules import Refusal
from ranks import Pair

RECORDS = registry.records("recipe")
OURS = {name: record for name, record in RECORDS.items() if record.qualified.startswith("poise_recipes.")}
PERTURBING = [name for name, record in RECORDS.items() if "perturb_weights" in record.hooks]


def twice(name: str) -> tuple[str, ...]:
    """A recipe in a stack whose loss is evaluated twice a step."""
    return tuple(dict.fromkeys([*PERTURBING[:1], *kit.with_partners(name)]))


every_recipe = pytest.mark.parametrize("name", RECORDS)


# -- training ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in RECORDS for kind in kit.kinds_of(name)])
def test_it_trains_on_each_kind_of_data_it_accepts(name: str, kind: str) -> None:
    made = kit.admitted(kit.with_partners(name), kind)
    before = kit.state(made)
    trainer = kit.fit(made, steps=3)
    sizes = {field: value.shape for field, value in kit.state(made).items() if field in made.state_dict()}
    assert sizes == {field: before[field].shape for field in sizes}, "buffers have their full size from setup"
    assert trainer.global_step == 3
    assert kit.finite(made)
    assert moved(before, kit.state(made)) > 1e-4
    tables = made.stack.after_fit(made.detached_step(kit.current_ranks()))
    assert all(len(table) == kit.TRAIN and torch.isfinite(table).all() for table in tables.values())


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> float:
    return max(float((after[name] - value).abs().max()) for name, value in before.items() if "model." in name)


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name in RECORDS for kind in kit.KINDS if kind not in kit.kinds_of(name)]
)
def test_it_is_refused_on_other_kinds_of_data(name: str, kind: str) -> None:
    with pytest.raises(Refusal, match=f"{name} works on .* data, and this is {kind} data") as refusal:
        kit.admitted(kit.with_partners(name), kind)
    assert refusal.value.reason == "kind of data"


@every_recipe
def test_it_leaves_its_input_untouched(name: str) -> None:
    made = kit.admitted(kit.with_partners(name), kit.kinds_of(name)[0])
    rows = kit.record(made.splits.kind, rows=kit.BATCH)  # type: ignore[union-attr]
    given = dict(tensors(rows))
    kept = {field: value.clone() for field, value in given.items()}
    kit.one_step(made, rows)
    assert dict(tensors(rows)).keys() == kept.keys()
    for field, value in tensors(rows):
        assert value is given[field]
        assert torch.equal(value, kept[field]), field


def tensors(rows: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for name, value in rows.items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        else:
            yield from tensors(value, f"{prefix}{name}.")


@every_recipe
def test_it_takes_soft_targets(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hard = gradients(name, lambda batch: batch)
    soft = gradients(name, lambda batch: batch.replace(target=0.6 * batch.target + 0.4 * batch.target.roll(1, 0)))
    assert all(torch.isfinite(gradient).all() for gradient in soft.values())
    assert any(not torch.equal(gradient, hard[weight]) for weight, gradient in soft.items())


def gradients(name: str, change: Any) -> dict[str, Tensor]:
    """The weights' gradients in one step on a batch whose targets are changed."""
    made = kit.admitted(kit.with_partners(name), kit.kinds_of(name)[0])
    receive = made.receive
    made.receive = lambda rows: change(receive(rows)) if "streams" in rows else receive(rows)  # type: ignore[method-assign]
    kit.one_step(made, kit.record(made.splits.kind, rows=kit.BATCH))  # type: ignore[union-attr]
    return {weight: p.grad.clone() for weight, p in made.named_parameters() if p.grad is not None}


class Keep(Callback):
    """Saves a checkpoint after a step, as a run does: the common state, and apart from it what differs by rank."""

    def __init__(self, path: Path, step: int) -> None:
        self.path, self.step = path, step
        self.own: dict[str, Tensor] = {}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        if trainer.global_step == self.step:
            assert isinstance(pl_module, TrainingModule)
            trainer.save_checkpoint(self.path)
            self.own = pl_module.rank_state()


@every_recipe
def test_it_resumes_bit_equal_in_mid_epoch(name: str, tmp_path: Path) -> None:
    names = kit.with_partners(name)
    kind = kit.kinds_of(name)[0]
    whole = kit.admitted(names, kind, epochs=3)
    steps_of_an_epoch = len(kit.loaders(whole).train_dataloader())
    keep = Keep(tmp_path / "checkpoint.ckpt", step=steps_of_an_epoch + 1)
    trainer = kit.fit(whole, epochs=3, callbacks=[keep])
    assert trainer.global_step == 3 * steps_of_an_epoch

    resumed = kit.admitted(names, kind, epochs=3)
    torch.manual_seed(99)  # nothing may hang on the global generator
    resumed.resume_rank_state(lambda ranks: keep.own)
    kit.fit(resumed, epochs=3, ckpt_path=keep.path, weights_only=True)
    expected, got = kit.state(whole), kit.state(resumed)
    assert expected.keys() == got.keys()
    assert [field for field, value in expected.items() if not torch.equal(value, got[field])] == []


# -- what it declares ----------------------------------------------------------------------------------------------


@every_recipe
def test_declared_passes_are_those_made(name: str) -> None:
    made = kit.admitted(kit.with_partners(name), kit.kinds_of(name)[0])
    with kit.counted_passes(made.model) as seen:
        kit.one_step(made, kit.record(made.splits.kind, rows=kit.BATCH))  # type: ignore[union-attr]
    assert seen.passes == made.stack.passes()


@pytest.fixture(scope="module")
def trained(pair: Pair) -> dict[tuple[str, ...], tuple[int, int, list[str]]]:
    """For plain and each stack, in training on two ranks: collectives it declares, DDP's own, and those of a step."""
    stacks = dict.fromkeys([(), *map(kit.with_partners, RECORDS)])
    return {names: alike(pair.run(train_and_count, names)) for names in stacks}


def alike(found: list[Any]) -> Any:
    """What both ranks found."""
    first, second = found
    assert first == second
    return first


def train_and_count(names: tuple[str, ...]) -> tuple[int, int, list[str]]:
    """In a rank process: a few steps of a stack under DDP, of which one is looked at."""
    made = kit.admitted(names, kit.kind_for(names, "image"), epochs=2)
    unused = any(member.unused_parameters for _, member in made.stack.items())
    ddp = strategy("ddp", world_size=2, accelerator="cpu", find_unused_parameters=unused)
    seen = SeenCollectives(step=4)  # neither logged nor at the end of an epoch, with DDP's buckets as they stay
    kit.fit(made, epochs=2, callbacks=[seen], settings={"devices": 2, "strategy": ddp, "limit_val_batches": 0})
    return made.stack.collectives(), seen.buckets + unused, seen.names


class SeenCollectives(Callback):
    """The names of all collectives of one step, whoever makes them in it; and DDP's buckets."""

    def __init__(self, step: int) -> None:
        self.step, self.buckets, self.names = step, 0, list[str]()

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            self.profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
            self.profile.start()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step + 1:
            self.profile.stop()
            self.names = [event.name for event in self.profile.events() or () if event.name.startswith("c10d::")]
            sizes = trainer.strategy.model._get_ddp_logging_data()["bucket_sizes"]  # type: ignore[union-attr]
            self.buckets = len(sizes.split(","))


def test_without_recipes_the_collectives_are_ddps(trained: Any) -> None:
    assert trained[()] == (0, 1, ["c10d::allreduce_"])


@every_recipe
def test_collectives_of_a_training_step_are_ddps_and_those_declared(name: str, trained: Any) -> None:
    declared, own, made = trained[kit.with_partners(name)]
    assert len(made) == declared + own, made


@pytest.mark.parametrize("name", [name for name, record in RECORDS.items() if "weigh" in record.hooks])
def test_weights_cost_two_collectives_at_most(name: str) -> None:
    assert kit.stack([name]).collectives() <= 2


@pytest.fixture(scope="module")
def collectives(pair: Pair) -> dict[tuple[str, ...], tuple[int, list[str]]]:
    """For each stack whose loss is evaluated twice the collectives it declares and those made, on two ranks."""
    stacks = [names for names in dict.fromkeys(map(twice, RECORDS)) if trains(names)]
    return {names: alike(pair.run(count_collectives, names)) for names in stacks}


def count_collectives(names: tuple[str, ...]) -> tuple[int, list[str]]:
    """In a rank process: one step of a stack."""
    made = kit.admitted(names, kit.kind_for(names, "image"))
    rows = kit.record(made.splits.kind, rows=8, first=8 * kit.current_ranks().rank)  # type: ignore[union-attr]
    with kit.counted_collectives() as called:
        kit.one_step(made, rows)
    return made.stack.collectives(), called


@every_recipe
def test_passes_and_collectives_are_right_where_the_loss_is_evaluated_twice(name: str, collectives: Any) -> None:
    names = twice(name)
    if not trains(names):
        pytest.skip(f"{' with '.join(names)} is refused: see refusals.txt")
    declared, called = collectives[names]
    assert len(called) == declared, called
    made = kit.admitted(names, kind := kit.kind_for(names, "image"))
    with kit.counted_passes(made.model) as seen:
        kit.one_step(made, kit.record(kind, rows=kit.BATCH))
    assert seen.passes == made.stack.passes()


def trains(names: tuple[str, ...]) -> bool:
    try:
        kit.admitted(names, kit.kind_for(names, "image"))
    except Refusal:
        return False
    return True


@every_recipe
def test_parameters_take_part_in_every_step_unless_it_says_not(name: str) -> None:
    made = kit.admitted(kit.with_partners(name), kit.kinds_of(name)[0])
    kit.one_step(made, kit.record(made.splits.kind, rows=kit.BATCH))  # type: ignore[union-attr]
    idle = [weight for weight, p in made.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle or any(member.unused_parameters for _, member in made.stack.items())


# -- how it is written ---------------------------------------------------------------------------------------------


@every_recipe
def test_its_arguments_are_kept_under_their_names(name: str) -> None:
    defaults = {parameter.name: parameter.default for parameter in RECORDS[name].parameters}
    assert registry.parameters_of(registry.build("recipe", name)) == defaults
    for parameter in RECORDS[name].parameters:
        given = {parameter.name: other_value(parameter)}
        assert registry.parameters_of(registry.build("recipe", name, **given)) == defaults | given


def other_value(parameter: Parameter) -> Any:
    """A value that is not the default, of the first kind that its type allows."""
    parts = get_args(parameter.type) if type(None) in get_args(parameter.type) else (parameter.type,)
    kind = get_args(parts[0])[0] if get_origin(parts[0]) is Annotated else parts[0]
    if get_origin(kind) is Literal:
        return next(value for value in get_args(kind) if value != parameter.default)
    return {bool: not parameter.default, int: 3, float: 0.375, str: "other"}[kind]


@pytest.mark.parametrize("record", OURS.values(), ids=lambda record: record.name)
def test_its_docstring_names_paper_shapes_and_departures(record: Record) -> None:
    missing = docstrings.missing(record)
    assert not missing, f"the docstring of {record.name} lacks " + "; ".join(missing)


@every_recipe
def test_its_class_attributes_are_of_the_kinds_that_the_stack_reads(name: str) -> None:
    cls = registry.load(RECORDS[name])
    for attribute in ("provides", "needs", "after", "conflicts", "per_rank", "accepts"):
        found = getattr(cls, attribute)
        assert isinstance(found, frozenset), attribute
        assert all(isinstance(word, str) for word in found), attribute
    assert cls.accepts <= kit.KINDS.keys()
    assert cls.accepts
    hooks = inspect.getmembers(cls, inspect.isfunction)
    assert {hook for hook, _ in hooks} >= set(RECORDS[name].hooks)
    assert not cls.needs & RECORDS.keys(), "a need is a capability, not a recipe"


@every_recipe
def test_those_it_brings_can_be_built(name: str) -> None:
    for guest, parameters in RECORDS[name].brings.items():
        assert registry.parameters_of(registry.build("recipe", guest, **parameters)).items() >= parameters.items()


def test_batches_are_frozen() -> None:
    batch = Batch.of(torch.rand(2, 3), torch.tensor([0, 1]), num_classes=2)
    with pytest.raises(AttributeError):
        batch.x = batch.x + 1  # type: ignore[misc]
