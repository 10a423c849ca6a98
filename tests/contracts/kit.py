"""Small data, models and runs for the contracts that every registered recipe keeps."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from types import MappingProxyType
from typing import Any

import lightning as L
import torch
import torch.distributed
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from poise import registry
from poise.attacks.threat import Threat
from poise.card import Card
from poise.console import EVALUATING, without_chatter
from poise.data.augmentation import Augmentation
from poise.data.dataset import Arrays, Splits
from poise.data.module import DataModule
from poise.distributed import current_ranks
from poise.models.classifier import Classifier
from poise.models.mixture import mixture
from poise.models.mlp import mlp
from poise.models.small_cnn import small_cnn
from poise.module import TrainingModule
from poise.optimizers.sgd import sgd
from poise.recipe import Passes
from poise.stack import RecipeStack

KINDS = {"image": (1, 8, 8), "tabular": (6,), "sequence": (5, 4)}
CLASSES, GROUPS, TRAIN, BATCH, BLOCK = 3, 2, 48, 16, 8
TABLES = {"errors": (torch.arange(TRAIN) % 5 == 0).float()}
RUN = frozenset(  # what a run on these data and models provides
    {"clean", "index", "groups", "class_counts", "group_counts", "predict", "features", "layers", "unlabelled"}
    | {"whole_batch", "whole_weights", "table:errors", "layer:mixing"}
)
COLLECTIVES = ("all_reduce", "all_gather", "all_gather_into_tensor", "reduce_scatter", "broadcast", "barrier")


@cache
def splits(kind: str = "image") -> Splits:
    """Three classes of unequal size, each brighter in other places, with groups and an unlabelled stream."""
    keyed = torch.Generator().manual_seed(7)
    pattern = torch.rand(CLASSES, *KINDS[kind], generator=keyed)

    def arrays(size: int, labelled: bool = True) -> Arrays:
        label = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), size, replacement=True, generator=keyed)
        group = torch.randint(GROUPS, (size,), generator=keyed)
        noise = torch.rand(size, *KINDS[kind], generator=keyed)
        x = 0.6 * pattern[label] + 0.3 * noise + 0.1 * group.view(-1, *[1] * len(KINDS[kind]))
        return Arrays(x, label, group) if labelled else Arrays(x, torch.full_like(label, -1))

    return Splits(
        train=arrays(TRAIN),
        val=arrays(16),
        calibration=arrays(16),
        test=arrays(16),
        num_classes=CLASSES,
        class_names=("a", "b", "c"),
        valid_range=(0.0, 1.0) if kind == "image" else None,
        kind=kind,  # type: ignore[arg-type]
        streams={"unlabelled": arrays(20, labelled=False)},
    )


def model(kind: str = "image") -> Classifier:
    """A small network without batch norm, the same at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return small_cnn(CLASSES, KINDS[kind], width=4) if kind == "image" else mlp(CLASSES, KINDS[kind], width=16)


def teaches_to_mix(names: Iterable[str]) -> bool:
    """Whether a recipe asks for two networks in one."""
    records = registry.records("recipe")
    return any(name in records and "layer:mixing" in records[name].needs for name in names)


def two_models(kind: str = "image") -> Classifier:
    """Two small networks in one, the same at every call."""
    described = {"name": "small_cnn", "parameters": {"width": 4}}
    if kind != "image":
        described = {"name": "mlp", "parameters": {"width": 16}}
    card = Card(KINDS[kind], ("a", "b", "c"), (0.0, 1.0) if kind == "image" else None, described, sha256="0" * 64)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return mixture(CLASSES, KINDS[kind], standard=card.text(), robust=card.text())


def kinds_of(name: str) -> list[str]:
    """The kinds of data a recipe accepts."""
    accepts = registry.records("recipe")[name].attributes["accepts"]
    return [kind for kind in KINDS if kind in accepts]


def kind_for(names: Iterable[str], preferred: str) -> str:
    """A kind of data that all of some recipes accept; the preferred one where there is none."""
    kinds = set(KINDS).intersection(*(kinds_of(name) for name in names))
    return preferred if preferred in kinds or not kinds else min(kinds)


def stack(names: Iterable[str]) -> RecipeStack:
    """The stack of recipes by their names, with default parameters but for at most two steps of anything."""
    made = RecipeStack({name: registry.build("recipe", name) for name in names})
    for _, member in made.items():
        if "steps" in registry.parameters_of(member):
            member.steps = min(member.steps, 2)  # type: ignore[assignment, operator]
    return made


def with_partners(name: str) -> tuple[str, ...]:
    """A recipe and those it cannot train without, found by what they provide."""
    known, names = registry.records("recipe"), [name]
    while True:
        members = stack(names).items()
        given = RUN.union(*(member.provides for _, member in members))
        missing = sorted({need for _, member in members for need in member.needs} - given)
        if missing:
            names.insert(0, next(other for other in known if missing[0] in known[other].provides))
        elif user := user_of_the_attack(names):
            names.append(user)
        else:
            return tuple(names)


def user_of_the_attack(names: Iterable[str]) -> str | None:
    """A recipe that trains on what an attack of the stack finds, where no member does."""
    known, present = registry.records("recipe"), list(names)
    found = set[str]().union(
        *(known[n].provides for n in present if "attack" in known[n].hooks and "objective" not in known[n].hooks)
    )
    if not found or any(known[name].needs & found for name in present):
        return None
    return next(name for name, record in known.items() if "objective" in record.hooks and set() < record.needs <= found)


def module(
    names: Iterable[str] = (),
    kind: str = "image",
    epochs: int = 1,
    augment: Mapping[str, Augmentation] | None = None,
) -> TrainingModule:
    """A module with its buffers made, its pictures augmented in all ways or those given.

    Nobody has looked yet whether its stack can train.
    """
    if augment is None:
        augment = augmentations()
    data = splits(kind)
    low, high = data.valid_range or (None, None)
    names = list(names)
    made = TrainingModule(
        two_models(kind) if teaches_to_mix(names) else model(kind),
        stack(names),
        threat=Threat("linf", 0.05, low, high),
        optimizer=partial(sgd, lr=0.1),
        splits=data,
        block=BLOCK,
        tables=TABLES,
        augment=augment if kind == "image" else None,
    )
    made.prepare(epochs)
    return made


def augmentations() -> dict[str, Augmentation]:
    """All that are registered, as they are by default but for sizes, which have to fit."""
    made = {name: registry.build("augmentation", name) for name in registry.records("augmentation")}
    for member in made.values():
        if isinstance(getattr(member, "size", None), int):
            member.size = 2
    return made


def admitted(
    names: Iterable[str] = (),
    kind: str = "image",
    epochs: int = 1,
    augment: Mapping[str, Augmentation] | None = None,
) -> TrainingModule:
    """A module as of `module` that is ready to train; refuses what cannot."""
    made = module(names, kind, epochs, augment)
    made.admit(made.receive(record(kind)))
    return made


def record(kind: str = "image", rows: int = 8, first: int = 0) -> dict[str, Any]:
    """Rows of the training split, as a loader gives them."""
    data, chosen = splits(kind), torch.arange(first, first + rows)
    streams = {name: stream.fetch(chosen % len(stream)) for name, stream in data.streams.items()}
    return {**data.train.fetch(chosen), "streams": streams}


def fit(
    made: TrainingModule,
    *,
    steps: int = -1,
    epochs: int = 1,
    callbacks: Sequence[Callback] = (),
    settings: Mapping[str, Any] = MappingProxyType({}),
    **named: Any,
) -> L.Trainer:
    """Train under Lightning as `poise.fit` does, at most `steps` steps, on one CPU unless `settings` say otherwise."""
    usual = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "inference_mode": False,
    }
    with without_chatter(*([EVALUATING] if made.model.keeps else [])):
        trainer = L.Trainer(max_epochs=epochs, max_steps=steps, callbacks=list(callbacks), **{**usual, **settings})
        trainer.fit(made, loaders(made), **named)
    return trainer


def loaders(made: TrainingModule) -> DataModule:
    """The data of a module, as its stack wants them."""
    assert made.splits is not None
    weights = partial(made.stack.sample_weights, made.task)
    return DataModule(made.splits, BATCH, replays=made.stack.replays, weights=weights, block=BLOCK)


def by_hand(made: TrainingModule, steps: int = 3) -> list[float]:
    """Train without a trainer; the loss of each step."""
    optimizer = made.optimizer([p for p in made.parameters() if p.requires_grad])
    rows = iter(loaders(made).train_dataloader())
    return [one_step(made, next(rows), optimizer, number) for number in range(steps)]


def one_step(
    made: TrainingModule, rows: dict[str, Any], optimizer: torch.optim.Optimizer | None = None, number: int = 0
) -> float:
    """One step on this process's ranks, in the order that the training module has; returns the loss."""
    stack = made.stack
    step = made.detached_step(current_ranks()).replace(progress=number / 3, global_step=number)
    batch = stack.attack(stack.mix(made.augmented(made.receive(rows), step), step), step)
    loss = stack.loss(batch, step)
    restore = stack.perturb_weights(loss, step)
    made.zero_grad()
    value = loss()
    value.backward()
    restore()
    if optimizer is not None:
        optimizer.step()
    stack.on_step_end(batch, step)
    return float(value.detach())


def state(made: TrainingModule) -> dict[str, Tensor]:
    """Copies of all that training changes: weights, buffers, and what differs by rank."""
    kept = {n: v.detach().clone() for n, v in made.state_dict().items() if isinstance(v, Tensor)}
    return kept | {f"rank.{name}": value for name, value in made.rank_state().items()}


def finite(made: TrainingModule) -> bool:
    """Whether every weight is finite, the recipes' own included."""
    return all(bool(torch.isfinite(p).all()) for p in made.parameters())


@dataclass
class Counted:
    """Passes seen."""

    forwards: int = 0
    input_backwards: int = 0
    full_backwards: int = 0

    @property
    def passes(self) -> Passes:
        return Passes(self.forwards, self.input_backwards, self.full_backwards)


@contextmanager
def counted_passes(network: Classifier) -> Iterator[Counted]:
    """Counts what goes through the backbone, and the gradients that come back to its output.

    A gradient that `torch.autograd.grad` was asked for with respect to no parameter is one of the input alone.
    """
    seen, alone = Counted(), False
    original = torch.autograd.grad

    def grad(outputs: Any, inputs: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal alone
        wanted = [inputs] if isinstance(inputs, Tensor) else list(inputs)
        alone = not any(isinstance(tensor, nn.Parameter) for tensor in wanted)
        try:
            return original(outputs, inputs, *arguments, **named)
        finally:
            alone = False

    def came_back(gradient: Tensor) -> None:
        seen.input_backwards += alone
        seen.full_backwards += not alone

    def went_through(layer: nn.Module, inputs: Any, features: Tensor) -> None:
        seen.forwards += 1
        if features.requires_grad:
            features.register_hook(came_back)

    handle = network.backbone.register_forward_hook(went_through)
    torch.autograd.grad = grad
    try:
        yield seen
    finally:
        torch.autograd.grad = original
        handle.remove()


@contextmanager
def counted_collectives() -> Iterator[list[str]]:
    """The names of torch.distributed's collectives, as they are called."""
    called: list[str] = []
    originals = {name: getattr(torch.distributed, name) for name in COLLECTIVES}

    def spy(name: str) -> Any:
        def heard(*arguments: Any, **named: Any) -> Any:
            called.append(name)
            return originals[name](*arguments, **named)

        return heard

    for name in originals:
        setattr(torch.distributed, name, spy(name))
    try:
        yield called
    finally:
        for name, original in originals.items():
            setattr(torch.distributed, name, original)
