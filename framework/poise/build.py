"""From a config, and what was given as objects, to what trains: data, model, stack, module."""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from poise import registry
from poise.assembly import overrides
from poise.assessment import check_evaluators
from poise.calibrator import Calibrator
from poise.checkpoint import newest
from poise.compilation import check_compiling
from poise.config import Config, Entry
from poise.data.dataset import Splits
from poise.data.module import DataModule
from poise.errors import UserError
from poise.evaluator import Evaluator
from poise.given import Objects
from poise.models.classifier import Classifier
from poise.module import TrainingModule
from poise.parameter_groups import Grouping
from poise.parts import NO_GPU, load_model, load_splits, made, make, threat_of
from poise.run_directory import RunDirectory
from poise.selection import refuse_selection, selections
from poise.stack import RecipeStack
from poise.strategies import zero_stage
from poise.tables import read_table
from poise.world import world_of

log = logging.getLogger("poise")


class Built:
    """The objects that a config names."""

    def __init__(self, config: Config, objects: Objects) -> None:
        self.config = config
        self.calibrators: dict[str, Calibrator] = made("calibrator", "calibration", config.calibration)
        self.evaluators: dict[str, Evaluator] = made("evaluator", "evaluation", config.evaluation)
        self.splits = load_splits(config, objects)
        if not self.splits.trains:
            raise UserError(f"{config.data.name} has no training examples here: evaluate on it (poise evaluate)")
        self.model = load_model(_going_on(config), objects, self.splits)
        self.module = module_of(config, objects, self.splits, self.model)
        self.threat, self.stack, self.augment = self.module.threat, self.module.stack, self.module.augment
        self.module.prepare(config.trainer.max_epochs)
        self.data = DataModule(
            self.splits,
            config.trainer.batch_size,
            accumulate=config.trainer.accumulate,
            seed=config.seed,
            replays=self.stack.replays,
            weights=partial(self.stack.sample_weights, self.module.task),
            block=config.trainer.block_size,
            eval_batch_size=config.trainer.eval_batch_size,
        )

    @property
    def selection(self) -> str:
        """The validation metric that chooses the epoch."""
        return f"val/{self.config.selection or selections(self.module.attacks, self._grouped)[0]}"

    @property
    def _grouped(self) -> bool:
        return self.splits.val.group is not None

    @property
    def accelerator(self) -> str:
        """What the run trains on."""
        chosen = self.config.trainer.accelerator
        available = "cuda" if torch.cuda.is_available() else "cpu"
        return available if chosen == "auto" else chosen

    def admit(self) -> None:
        """Refuse what cannot train, on a few examples."""
        self._refuse_settings()
        rows = torch.arange(min(len(self.splits.train), 8))
        record: dict[str, Any] = dict(self.splits.train.fetch(rows))
        record["streams"] = {name: data.fetch(rows % len(data)) for name, data in self.splits.streams.items()}
        whole = zero_stage(self.config.strategy) != 3
        batch = self.module.receive(record)
        self.module.admit(batch, accumulate=self.config.trainer.accumulate, whole_weights=whole)
        if self.config.trainer.accumulate > 1:
            for name, member in self.stack.items():
                if member.couples_batch or (member.relative and overrides(member, "weigh")):
                    log.warning("%s looks at whole batches: with trainer.accumulate it sees micro-batches", name)
        if (schedule := self.config.schedule.name) != "constant":
            for name, _ in self.stack.owners("lr_factor"):
                log.warning(
                    "%s changes the learning rate as it trains, and schedule=%s changes it besides: "
                    "schedule=constant leaves it to the recipe",
                    name,
                    schedule,
                )

    def _refuse_settings(self) -> None:
        """What a config cannot know of itself, before anything is written."""
        self._refuse_augmentations()
        self._refuse_devices()
        self._refuse_small_splits()
        refuse_selection(self.config.selection, self.module.attacks, self._grouped)
        check_evaluators(self.splits, self.evaluators)
        if self.config.trainer.sync_batchnorm and self.accelerator == "cpu":
            raise UserError(
                "trainer.sync_batchnorm=true needs GPUs; on CPU each rank keeps statistics of its own, whose mean is "
                "validated and shipped"
            )
        if self.config.trainer.compile:
            check_compiling(self.accelerator, zero_stage(self.config.strategy))
        self.data.train_dataloader()  # refuses a split smaller than a batch

    def _refuse_augmentations(self) -> None:
        """Those that these inputs do not fit."""
        if not self.augment:
            return
        if len(self.splits.input_shape) != 3:
            raise UserError(
                f"augment={','.join(self.augment)} is for pictures [channels, height, width], and these inputs are "
                f"{list(self.splits.input_shape)}: augment=none"
            )
        for member in self.augment.values():
            member.check(*self.splits.input_shape[1:])

    def _refuse_small_splits(self) -> None:
        """Those of which a rank would have nothing to predict."""
        ranks = world_of(self.config).size
        shifts = {name: split for name, split in self.splits.further.items() if name.startswith("shifts.")}
        for name, split in {**self.splits.main, **shifts}.items():
            if len(split) < ranks:
                raise UserError(
                    f"{name} has {len(split)} example{'s' * (len(split) > 1)}, fewer than there are ranks ({ranks}): "
                    f"set trainer.devices={len(split)} or less, or give it more examples"
                )

    def _refuse_devices(self) -> None:
        """GPUs that this machine does not have."""
        if self.accelerator != "cuda":
            return
        wanted, found = self.config.ranks_on_a_node, torch.cuda.device_count()
        if not found:
            raise UserError(NO_GPU)
        if wanted > found:
            raise UserError(
                f"trainer.devices={wanted} on a machine with {found} GPU{'s' * (found > 1)}: one rank needs one each; "
                f"set trainer.devices={found}, or trainer.accelerator=cpu"
            )


def module_of(config: Config, objects: Objects, splits: Splits, model: Classifier) -> TrainingModule:
    """What trains a model on data as a config says it; nothing of it is prepared.

    Raises:
        UserError: a threat, table or parameter that does not fit.
    """
    recipes = {alias: objects.recipes.get(alias) or make("recipe", entry) for alias, entry in config.recipe.items()}
    return TrainingModule(
        model,
        RecipeStack(recipes),
        threat=threat_of(config, splits),
        optimizer=_bound("optimizer", config.optimizer),
        grouping=Grouping(config.optimizer.layer_decay, config.optimizer.decay_norms_and_biases),
        schedule=_bound("schedule", config.schedule),
        seed=config.seed,
        block=config.trainer.block_size,
        splits=splits,
        tables={name: read_table(where, name) for name, where in config.tables.items()},
        augment={alias: make("augmentation", entry) for alias, entry in config.augment.items()},
    )


def _going_on(config: Config) -> Config:
    """The config without the weights it starts from, where a run has checkpoints of its own to go on from."""
    if config.model.checkpoint is None or config.run_dir is None:
        return config
    if newest(RunDirectory(Path(config.run_dir)).checkpoints) is None:
        return config
    return replace(config, model=replace(config.model, checkpoint=None))


def _bound(kind: str, entry: Entry) -> Callable[[Any], Any]:
    """A registered function with its parameters filled in."""
    return partial(registry.load(registry.find(kind, entry.name)), **entry.params)
