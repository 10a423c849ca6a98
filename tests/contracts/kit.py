"""Small data, models and runs for the contracts that every registered recipe keeps."""

from collections.abc import Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from poise import registry
from poise.attacks.threat import Threat
from poise.console import without_chatter
from poise.data.dataset import Arrays, Splits
from poise.data.module import DataModule
from poise.models.classifier import Classifier
from poise.models.mlp import mlp
from poise.models.small_cnn import small_cnn
from poise.module import TrainingModule
from poise.optimizers.sgd import sgd
from poise.recipe import Recipe
from poise.stack import RecipeStack

KINDS = {"image": (1, 8, 8), "tabular": (6,), "sequence": (5, 4)}
CLASSES, GROUPS, TRAIN, BATCH, BLOCK = 3, 2, 48, 16, 8
STEPS = TRAIN // BATCH
TABLES = {"errors": (torch.arange(TRAIN) % 5 == 0).float()}
RUN = frozenset(  # what a run on these data and models provides
    ["clean", "index", "groups", "class_counts", "group_counts", "predict", "features", "layers", "whole_batch", "whole_weights", "unlabelled", "table:errors"]
)


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


def model(kind: str = "image", dtype: torch.dtype = torch.float32) -> Classifier:
    """A small network without batch norm, the same at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = small_cnn(CLASSES, KINDS[kind], width=4) if kind == "image" else mlp(CLASSES, KINDS[kind], 16)
    return network.to(dtype)


def names() -> list[str]:
    """Every registered recipe."""
    return list(registry.records("recipe"))


def kinds_of(name: str) -> list[str]:
    """The kinds of data a recipe accepts."""
    accepts = registry.records("recipe")[name].attributes.get("accepts", KINDS)
    return [kind for kind in KINDS if kind in accepts]


def stack(members: Iterable[str]) -> RecipeStack:
    """The stack of recipes by their names, with default parameters."""
    return RecipeStack({name: build(name) for name in members})


def build(name: str) -> Recipe:
    """A recipe with default parameters."""
    recipe: Recipe = registry.build("recipe", name)
    return recipe


def with_partners(name: str) -> tuple[str, ...]:
    """A recipe and those it cannot train without, found by what they provide or need."""
    known = registry.records("recipe")
    members = stack([name])
    given = RUN.union(*(member.provides for _, member in members.items()))
    missing = {need for _, member in members.items() for need in member.needs} - given
    partners = [next(other for other in known if need in known[other].provides) for need in sorted(missing)]
    wanted = frozenset().union(*(member.needs for _, member in members.items()))
    if "attack" in members.owners("attack").__len__() * ["attack"] and not known[name].provides & wanted:
        partners += [next(other for other in known if known[name].provides & known[other].needs)]
    return (*dict.fromkeys(partners), name)


def module(
    members: Sequence[str] | RecipeStack = (),
    kind: str = "image",
    network: Classifier | None = None,
    epochs: int = 1,
    **named: Any,
) -> TrainingModule:
    """A module that is ready to train, its stack not yet looked at."""
    data = splits(kind)
    low, high = data.valid_range or (None, None)
    made = TrainingModule(
        model(kind) if network is None else network,
        members if isinstance(members, RecipeStack) else stack(members),
        threat=Threat("linf", 0.05, low, high),
        optimizer=partial(sgd, lr=0.1),
        splits=data,
        block=BLOCK,
        tables=TABLES,
        **named,
    )
    made.prepare(epochs)
    return made


def record(kind: str = "image", rows: int = 8) -> dict[str, Any]:
    """The first rows of the training split, as a loader gives them."""
    data, chosen = splits(kind), torch.arange(rows)
    streams = {name: stream.fetch(chosen) for name, stream in data.streams.items()}
    return {**data.train.fetch(chosen), "streams": streams}


def fit(
    made: TrainingModule, *, steps: int = -1, epochs: int = 1, callbacks: Sequence[Callback] = (), **named: Any
) -> L.Trainer:
    """Train as `poise.fit` does, at most `steps` steps."""
    data = DataModule(
        made.splits,
        BATCH,
        replays=made.stack.replays,
        weights=partial(made.stack.sample_weights, made.task),
        block=BLOCK,
    )
    with without_chatter():
        trainer = L.Trainer(
            max_epochs=epochs,
            max_steps=steps,
            accelerator="cpu",
            devices=1,
            callbacks=list(callbacks),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            inference_mode=False,
        )
        trainer.fit(made, data, **named)
    return trainer


def state(made: TrainingModule) -> dict[str, Tensor]:
    """Copies of all that training changes: weights, buffers, and what differs by rank."""
    kept = {n: v.detach().clone() for n, v in made.state_dict().items() if isinstance(v, Tensor)}
    return kept | {f"rank.{name}": value for name, value in made.rank_state().items()}


def finite(made: TrainingModule) -> bool:
    """Whether every weight and buffer of a module is finite, but for a recipe's own marks of nothing yet."""
    return all(bool(torch.isfinite(p).all()) for p in made.parameters())


def folder(root: Path, name: str) -> Path:
    """A file of a test's own."""
    return root / name
