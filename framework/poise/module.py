"""TrainingModule: one training step, told top to bottom, under any Lightning trainer."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from jaxtyping import Float, Shaped
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from poise.attacks.threat import Threat
from poise.batch import Batch, Predictions, as_input
from poise.data.augmentation import Augmentation
from poise.data.dataset import Splits
from poise.distributed import Ranks, current_ranks
from poise.errors import UserError
from poise.ground import Ground, task_of
from poise.intake import as_record, check_record, pinned
from poise.models.classifier import Classifier
from poise.models.shapes import check_output
from poise.notes import Notes
from poise.optimizers.sgd import sgd
from poise.parameter_groups import ALIKE, Grouping, optimizer_over, parameter_groups
from poise.precision import keep_casts
from poise.predictions import Attack, predict
from poise.recipe import Recipe
from poise.schedules.cosine import cosine
from poise.shipping import statistics
from poise.stack import RecipeStack
from poise.step import Step, key, seed_generators
from poise.trial import refuse_unheard
from poise.validation import Validation, validation_metrics
from poise.watch import FiniteWatch

OWN_NOTES = ("loss", "lr")  # that a step notes itself


class TrainingModule(L.LightningModule):
    """A classifier trained by a stack of recipes.

    Works in a script's own `L.Trainer` with any loader of `(x, y)`, `(x, y, group)` or dicts, and inside
    `poise.fit`, which gives it `splits`; without them, what only poise's own loaders can honour is refused by name.

    Args:
        model: maps inputs in their valid range to logits [B, C].
        recipe: recipes in order, by alias, or a stack.
        num_classes: C; read from the splits where they are given.
        threat: what an attacker may do; linf with eps 8/255 if None.
        optimizer: parameters, or PyTorch's groups of them -> optimiser.
        grouping: how learning rates and weight decay differ between parameters.
        schedule: progress in [0, 1] -> factor on the learning rate.
        seed: of every draw of the run.
        block: examples in a block of the global batch; 0 makes each loader batch one block.
        splits: the data, where poise loads it.
        num_groups: G, where a foreign loader gives groups.
        valid_range: of the inputs; None where there is none (tabular data).
        augment: what is done to training inputs on the device, by alias, in order.
        tables: per-example tables [N, …] by name, from earlier runs.

    Raises:
        Refusal: a stack that contradicts itself or needs what this run does not have, before the first step.
        UserError: labels, inputs or sizes that cannot be trained on.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Sequence[Recipe] | Mapping[str, Recipe] | RecipeStack = (),
        num_classes: int | None = None,
        *,
        threat: Threat | None = None,
        optimizer: Callable[[Iterable[Any]], Optimizer] = sgd,
        grouping: Grouping = ALIKE,
        schedule: Callable[[float], float] = cosine,
        seed: int = 0,
        block: int = 0,
        splits: Splits | None = None,
        num_groups: int = 0,
        valid_range: tuple[float, float] | None = (0.0, 1.0),
        tables: Mapping[str, Shaped[Tensor, "..."]] | None = None,
        augment: Mapping[str, Augmentation] | None = None,
    ) -> None:
        super().__init__()
        if splits is not None:
            num_classes, valid_range = splits.num_classes, splits.valid_range
        if num_classes is None:
            raise UserError("give TrainingModule(num_classes=…): a loader does not tell")
        self.model = Classifier.wrap(model, num_classes)
        self.stack = recipe if isinstance(recipe, RecipeStack) else RecipeStack(recipe)
        low, high = valid_range or (None, None)
        self.threat = threat or Threat("linf", 8 / 255, low, high)
        self.optimizer, self.grouping, self.schedule = optimizer, grouping, schedule
        self.augment = dict(augment or {})
        self.seed, self.block, self.splits, self.valid_range = seed, block, splits, valid_range
        self.task = task_of(num_classes, splits, num_groups, self.model.feature_width, tables or {})
        self.watch = FiniteWatch()
        self.stop_reason: str | None = None
        self.metrics: dict[str, float] = {}
        self._ready = self._admitted = False
        self._total_steps = 1
        self._restore: Callable[[], None] = lambda: None
        self._own_state: Callable[[Ranks], Mapping[str, Shaped[Tensor, "..."]]] = lambda ranks: {}
        self._notes = Notes()
        self._unread: dict[str, Tensor] = {}
        self.validation = Validation(self.threat, self.attacks, seed, num_classes, self.task.num_groups)

    # -- before the first step ---------------------------------------------------------------------------------

    def prepare(self, epochs: int) -> None:
        """Make head and recipes' buffers; called once, before any optimiser or wrapper exists."""
        if self._ready:
            return
        self.task = replace(self.task, epochs=epochs)
        self.ground = Ground(self.task, self.model, self.splits)
        self.ground.refuse_unsettled(self.stack)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key(self.seed, "setup"))
            self.stack.setup(self.task, self.model)
        if not any(parameter.requires_grad for parameter in self.model.parameters()):
            raise UserError(
                "no weight of the model is left to train: freeze less of it (model.freeze), or measure it as it is "
                "(poise evaluate)."
            )
        self._ready = True

    def setup(self, stage: str) -> None:
        """Lightning's hook: data and trainer are known, nothing is wrapped yet."""
        self.prepare(self.trainer.max_epochs or 1)

    def admit(self, batch: Batch, *, accumulate: int = 1, whole_weights: bool = True) -> None:
        """Refuse, on a few examples and before the first step, a stack that cannot train here.

        Raises:
            Refusal: an unmet need, a kind of data not accepted, a hook that nobody would call.
        """
        self.ground.refuse(self.stack, batch, accumulate, whole_weights)
        step = self._step(Ranks(), progress=0.0).replace(predict=self._predictions, block=0)
        augmented = self.augmented(batch, step)
        if augmented.x.shape != batch.x.shape:
            check_output("with augment=, the model", self.model, augmented.x[:2], self.task.num_classes)
        refuse_unheard(self.stack, self.model, augmented, step)
        self._admitted = True

    # -- one step ----------------------------------------------------------------------------------------------

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> dict[str, Any]:
        """Bring a loader's batch into one form and check it while it is on the host."""
        record = as_record(batch)
        check_record(record, self.task.num_classes, self.valid_range, self.task.num_groups)
        return pinned(record) if self.device.type == "cuda" else record

    def training_step(self, record: Mapping[str, Any], batch_idx: int) -> Float[Tensor, ""]:
        """The loss of one micro-batch: augment → mix → attack → perturb weights → objective, weigh, penalty."""
        keep_casts()
        batch, step = self.receive(record), self.step_at(batch_idx, len(record["x"]))
        first = self._first_replay(step)
        # the model's own draws, such as dropout's, come from the global generator: keyed, they resume exactly
        seed_generators(key(self.seed, step.global_step, step.first_block, "dropout"), self.device)
        if not self._admitted:
            self.admit(batch, accumulate=self.trainer.accumulate_grad_batches)
        batch = self.stack.mix(self.augmented(batch, first), first)
        batch = self.stack.attack(batch, step)
        loss = self.stack.loss(batch, step)
        self._restore = self.stack.perturb_weights(loss, step)
        value = loss()
        self._note(value, {**(loss.outcome.terms if loss.outcome else {}), **loss.penalties}, step)
        self._notes.end_batch(len(record["x"]), first=batch_idx % self.trainer.accumulate_grad_batches == 0)
        self._log_step(value, step)
        self._batch, self._step_done = batch, step
        return value

    def on_after_backward(self) -> None:
        """Take a change of the weights back before the optimiser sees them."""
        self._restore()
        self._restore = lambda: None  # the other holds a copy of the weights

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        """Step, then tell the recipes; DeepSpeed is asked at each micro-batch, and steps at the last one."""
        super().optimizer_step(*arguments, **named)
        if not self.trainer.fit_loop._should_accumulate():
            self.stack.on_step_end(self._batch, self._step_done)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Look for a loss that is not finite, every few steps; tell the recipes of an epoch's last one."""
        if self.watch.due(self._step_done.global_step):
            self.watch.look(current_ranks())
        if self.stop_reason or self.trainer.global_step == self.trainer.max_steps:
            self.trainer.should_stop = True  # Lightning validates an epoch that is cut short only if told to stop
        stops = self.trainer.should_stop and self.trainer.fit_loop._can_stop_early
        if self.trainer.is_last_batch or stops:
            self.stack.on_epoch_trained(self._step(current_ranks(), self.trainer.global_step / self._total_steps))

    def receive(self, record: Mapping[str, Any]) -> Batch:
        """A loader's record as the recipes see it: float inputs, one-hot targets."""
        x = as_input(record["x"])
        x = x.double() if self.dtype == torch.float64 else x
        streams = {name: self.receive(stream) for name, stream in record.get("streams", {}).items()}
        known = {name: record[name].long() for name in ("index", "group") if record.get(name) is not None}
        return Batch.of(x, record["label"], self.task.num_classes, streams=streams, **known)

    def augmented(self, batch: Batch, step: Step, name: str = "x") -> Batch:
        """The batch with its inputs and its streams' augmented."""
        if not self.augment:
            return batch
        kept = batch.replace(
            raw=batch.x,
            streams={stream: self.augmented(further, step, stream) for stream, further in batch.streams.items()},
        )
        return kept.replace(x=step.bound("augment").view(kept, name))

    def step_at(self, batch_idx: int, rows: int) -> Step:
        """What hooks may use at a micro-batch of `rows` examples."""
        ranks = current_ranks()
        micro = batch_idx % self.trainer.accumulate_grad_batches
        blocks = -(-rows // (self.block or rows))
        first_block = (micro * ranks.size + ranks.rank) * blocks
        return self._step(ranks, self.trainer.global_step / self._total_steps, first_block)

    def _step(self, ranks: Ranks, progress: float, first_block: int = 0) -> Step:
        trainer = self._trainer
        return Step(
            self.model,
            self.stack,
            threat=self.threat,
            augment=self.augment,
            epoch=trainer.current_epoch if trainer else 0,
            global_step=trainer.global_step if trainer else 0,
            progress=min(progress, 1.0),
            ranks=ranks,
            seed=self.seed,
            block=self.block,
            first_block=first_block,
            predict=self._predictions,
            log=self._log,
            stop=self._stop,
        )

    def detached_step(self, ranks: Ranks) -> Step:
        """What hooks may use outside a trainer, after the last step."""
        return self._step(ranks, progress=1.0)

    def _first_replay(self, step: Step) -> Step:
        """The step at a batch's first replay: replays share its mixing, on a resumed run as well."""
        replay = step.global_step % self.stack.replays
        return step.replace(global_step=step.global_step - replay) if replay else step

    def _note(self, loss: Tensor, terms: Mapping[str, Shaped[Tensor, "..."]], step: Step) -> None:
        values = {name: value.detach().mean() for name, value in terms.items()}
        self.watch.note(step.global_step, loss, values)
        self._notes.keep({"loss": loss, **values, "lr": self.trainer.optimizers[0].param_groups[0]["lr"]})

    def _log_step(self, loss: Tensor, step: Step) -> None:
        if self._is_logged(step):  # a millisecond a name, and a collective: not where nobody reads it
            self._log_noted(step.ranks)
        elif self._barred:
            self.log("train/loss", loss.detach(), prog_bar=True, batch_size=1)

    def _log_noted(self, ranks: Ranks) -> None:
        noted = self._notes.read(self.device, ranks)
        self._unread |= noted
        for name, value in sorted(noted.items(), key=lambda item: item[0] != "loss"):
            self.log(f"train/{name}", value, prog_bar=self._barred and name == "loss", batch_size=1)

    def _is_logged(self, step: Step) -> bool:
        """Whether loggers get this step's values, or it is the last of its epoch, which reports them."""
        trainer, done = self.trainer, step.global_step + 1
        if trainer.fit_loop._should_accumulate():
            return False
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set where Lightning's annotations end
        return trainer.is_last_batch or done == trainer.max_steps or (every > 0 and done % every == 0)

    @property
    def ends_epoch(self) -> bool:
        """Whether the step just done is its epoch's last: of the data, of the run, or before a stop."""
        trainer = self.trainer
        return trainer.is_last_batch or trainer.global_step == trainer.max_steps or self.stop_reason is not None

    @property
    def _barred(self) -> bool:
        """Whether there is a bar of Lightning's, which waits for the device at each step to show a value."""
        return self.trainer.progress_bar_callback is not None

    def read_logged(self) -> dict[str, float]:
        """What was logged in training since this was last asked; waits for the device."""
        logged, self._unread = self._unread, {}
        return {f"train/{name}": float(value) for name, value in logged.items()}

    def _log(self, name: str, value: Any) -> None:
        if name in OWN_NOTES:
            raise UserError(f"step.log({name!r}, …): train/{name} is the run's own; log it under another name.")
        self._notes.keep({name: value})

    def _stop(self, reason: str) -> None:
        self.stop_reason = reason

    def _predictions(
        self, split: str, rows: Shaped[Tensor, "..."] | None = None, attack: Attack | None = None
    ) -> Predictions:
        if self.splits is None:
            raise UserError("step.predict needs the splits of poise.fit: a foreign loader is read once, in its order")
        if split not in (known := ("train", "val", "calibration")):
            raise UserError(f"step.predict({split!r}): recipes may see {', '.join(known)}")
        data = self.splits.main[split]
        return predict(self.model, data if rows is None else data.rows(rows), current_ranks(), attack)

    # -- optimiser and epochs ----------------------------------------------------------------------------------

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser over model and recipes; the learning rate has this one owner."""
        self._total_steps = max(1, int(self.trainer.estimated_stepping_batches))
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = optimizer_over(self.optimizer, parameter_groups(self.model, trained, self.grouping))
        schedule = LambdaLR(optimizer, lambda done: self._lr_factor(done))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _lr_factor(self, done: int) -> float:
        progress = min(done / self._total_steps, 1.0)
        return self.schedule(progress) * self.stack.lr_factor(self._step(Ranks(), progress))

    def on_train_start(self) -> None:
        """Put back what differs by rank, after a checkpoint's common state."""
        self.load_rank_state(self._own_state(current_ranks()))
        self.trainer.should_stop = self.stop_reason is not None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep why a run was stopped: one that was then killed is not to train on."""
        checkpoint["stop_reason"] = self.stop_reason

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up what was kept."""
        self.stop_reason = checkpoint["stop_reason"]

    def on_train_epoch_start(self) -> None:
        """Tell the recipes, whose factors on the learning rate may have changed since the last step."""
        self.stack.on_epoch_start(self._step(current_ranks(), self.trainer.global_step / self._total_steps))
        schedule = self.lr_schedulers()
        if isinstance(schedule, LambdaLR):
            for group, lr in zip(schedule.optimizer.param_groups, schedule.base_lrs, strict=True):
                group["lr"] = lr * self._lr_factor(self.trainer.global_step)

    def on_train_epoch_end(self) -> None:
        """Tell the recipes how the validation went, and log what they say at the epoch's end."""
        self.watch.look(current_ranks())
        step = self._step(current_ranks(), self.trainer.global_step / self._total_steps)
        self.stack.on_epoch_end(step, validation_metrics(self.trainer))
        self._log_noted(step.ranks)
        self.trainer.should_stop |= self.stop_reason is not None

    # -- validation --------------------------------------------------------------------------------------------

    def on_validation_start(self) -> None:
        """Validate what would be shipped."""
        self.validation.begin(self.model, self.stack, current_ranks())

    def on_validation_end(self) -> None:
        """Train on with the weights that were being trained."""
        self.validation.end(self.model)

    def validation_step(self, record: Mapping[str, Any], batch_idx: int) -> None:
        """Clean metrics, and accuracy under a short PGD where the stack attacks."""
        keep_casts()
        batch, label = self.receive(record), record["label"].long()
        self.validation.look(self.model, batch.x, label, record.get("position"), batch.group)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the whole split, over all ranks."""
        results = self.validation.results()
        for name, value in results.items():
            self.log(name, value, prog_bar=name == list(results)[-1], rank_zero_only=False)

    @property
    def attacks(self) -> bool:
        """Whether the stack trains against an attack."""
        return bool(self.stack.owners("attack"))

    # -- what differs by rank ----------------------------------------------------------------------------------

    def rank_state(self) -> dict[str, Shaped[Tensor, "..."]]:
        """Batch statistics, recipes' buffers that differ by rank, and what is noted for the log."""
        parts = {"model": statistics(self.model), "stack": self.stack.rank_state(), "notes": self._notes.state()}
        return {f"{part}.{name}": v.detach().clone() for part, state in parts.items() for name, v in state.items()}

    def load_rank_state(self, state: Mapping[str, Shaped[Tensor, "..."]]) -> None:
        """Put back what `rank_state` gave on this rank."""
        own = statistics(self.model)
        for name, value in _part(state, "model").items():
            own[name].copy_(value)
        self.stack.load_rank_state(_part(state, "stack"))
        self._notes.load(_part(state, "notes"))

    def resume_rank_state(self, own_state: Callable[[Ranks], Mapping[str, Shaped[Tensor, "..."]]]) -> None:
        """Keep what gives a checkpoint's state of this rank, until ranks have met and the common state is loaded."""
        self._own_state = own_state


def _part(state: Mapping[str, Tensor], name: str) -> dict[str, Shaped[Tensor, "..."]]:
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
