"""TrainingModule in a script's own Lightning trainer, and what it refuses there."""

import math
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from poise import Batch, Recipe, Step, Threat, TrainingModule
from poise.errors import UserError
from poise.models.classifier import Classifier
from poise.optimizers.sgd import sgd
from poise.recipe import Task
from poise.rules import Refusal
from poise.schedules.constant import constant
from poise_recipes import AWP, GroupDRO, Mixup, Trades
from small_runs import CLASSES, GROUPS, rows

DATA = rows(48, 0)


class Rows(Dataset[Any]):
    """The same examples in one of the forms that people's loaders have."""

    def __init__(self, form: str, **changes: Tensor) -> None:
        self.form = form
        self.fields = {"x": DATA.x, "label": DATA.label, "group": DATA.group, **changes}

    def __len__(self) -> int:
        return len(DATA)

    def __getitem__(self, i: int) -> Any:
        x, label, group = (self.fields[name][i] for name in ("x", "label", "group"))  # type: ignore[index]
        forms = {
            "pair": (x, label),
            "triple": (x, label, group),
            "dict": {"x": x, "label": label},
            "full": {"x": x, "label": label, "group": group, "index": torch.tensor(i)},
            "numbers": (x, int(label)),
        }
        return forms[self.form]


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, CLASSES))


def train(
    module: TrainingModule,
    data: Dataset[Any],
    steps: int = 3,
    validation: Dataset[Any] | None = None,
    **options: Any,
) -> L.Trainer:
    """A script of one's own."""
    settings = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on loaders
        trainer = L.Trainer(max_steps=steps, enable_progress_bar=False, enable_model_summary=False, **settings)
        trainer.fit(module, DataLoader(data, batch_size=16), DataLoader(validation) if validation else None)
    return trainer


@pytest.mark.parametrize("form", ["pair", "triple", "dict", "full", "numbers"])
def test_any_form_of_batch_trains(form: str) -> None:
    network = model()
    before = [p.detach().clone() for p in network.parameters()]
    train(TrainingModule(network, recipe=[Trades(), Mixup(), AWP()], num_classes=CLASSES), Rows(form))
    moved = [not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True)]
    assert all(moved), "the user's own object is what was trained"


def test_plain_training_is_what_a_plain_loop_does() -> None:
    network, by_hand = model().double(), model().double()
    schedule = partial(constant)
    module = TrainingModule(
        network, num_classes=CLASSES, optimizer=partial(sgd, lr=0.1, momentum=0.0), schedule=schedule
    )
    train(module, Rows("pair"), precision="64-true")
    optimizer = sgd(by_hand.parameters(), lr=0.1, momentum=0.0)
    for begin in range(0, 48, 16):
        optimizer.zero_grad()
        x, y = DATA.x[begin : begin + 16].double(), DATA.label[begin : begin + 16]
        nn.functional.cross_entropy(by_hand(x), y).backward()
        optimizer.step()
    for a, b in zip(network.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_groups_are_used_where_a_loader_gives_them_and_missed_where_not() -> None:
    module = TrainingModule(model(), [GroupDRO(eta=0.5)], num_classes=CLASSES, num_groups=GROUPS)
    train(module, Rows("triple"))
    log_q = module.stack.members["group_dro"].log_q
    assert not torch.allclose(log_q[0], log_q[1])
    with pytest.raises(Refusal, match="group_dro needs `groups`: use data with groups"):
        train(TrainingModule(model(), [GroupDRO()], num_classes=CLASSES, num_groups=GROUPS), Rows("pair"))


class Weighted(Recipe):
    def sample_weights(self, task: Task, epoch: int) -> Tensor:
        return torch.ones(task.num_train)


class Replayed(Recipe):
    replays = 2


class NeedsStream(Recipe):
    needs = frozenset({"unlabelled"})


class NeedsTable(Recipe):
    needs = frozenset({"table:errors"})

    def on_epoch_start(self, step: Step) -> None: ...


class NeedsPredict(Recipe):
    needs = frozenset({"predict"})


class NeedsIndex(Recipe):
    needs = frozenset({"index"})

    def on_epoch_start(self, step: Step) -> None: ...


class Predicts(Recipe):
    def mix(self, batch: Batch, step: Step) -> Batch:
        step.predict("train")
        return batch


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Weighted(), "Weighted draws examples by weight, which needs poise's own loader: use poise.fit"),
        (Replayed(), "Replayed replays batches, which needs poise's own loader: use poise.fit"),
        (NeedsStream(), "NeedsStream needs `unlabelled`"),
        (NeedsTable(), r"NeedsTable needs `table:errors`: give tables\.errors=<file or run>"),
        (NeedsPredict(), "NeedsPredict needs `predict`"),
        (NeedsIndex(), "NeedsIndex needs `index`: give batches as dicts with an `index`"),
        (Predicts(), "a foreign loader is read once, in its order"),
    ],
)
def test_what_a_foreign_loader_cannot_honour_is_refused_by_name(recipe: Recipe, message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(TrainingModule(model(), [recipe], num_classes=CLASSES), Rows("pair"))


def test_an_index_and_tables_that_are_given_are_used() -> None:
    module = TrainingModule(model(), [NeedsIndex(), NeedsTable()], CLASSES, tables={"errors": torch.ones(48)})
    train(module, Rows("full"))
    assert module.global_step == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": DATA.label + 1}, r"labels go from 1 to 3, outside 0…2 \(num_classes=3\)"),
        ({"label": DATA.label - 1}, "labels go from -1 to 1"),
        ({"label": DATA.label.float()}, r"labels are torch\.float32"),
        ({"x": DATA.x * 255}, "outside the valid range 0…1: normalise inside the model"),
        ({"x": DATA.x.masked_fill(DATA.x > 0.7, torch.nan)}, "NaN or infinite"),
        ({"x": DATA.x.long()}, r"inputs are torch\.int64; give uint8 pictures or floats"),
    ],
)
def test_batches_that_cannot_be_trained_on_are_refused(changes: Mapping[str, Tensor], message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(TrainingModule(model(), [], num_classes=CLASSES), Rows("pair", **changes))


def test_fields_that_mean_nothing_are_refused() -> None:
    module = TrainingModule(model(), num_classes=CLASSES)
    with pytest.raises(UserError, match=r"a batch has a field 'labels'\. Did you mean 'label'\?"):
        module.on_before_batch_transfer({"x": DATA.x, "labels": DATA.label}, 0)
    with pytest.raises(UserError, match="needs `x` and `label`"):
        module.on_before_batch_transfer({"x": DATA.x}, 0)
    with pytest.raises(UserError, match="a batch is a Tensor"):
        module.on_before_batch_transfer(DATA.x, 0)
    with pytest.raises(UserError, match="give TrainingModule\\(num_classes=…\\)"):
        TrainingModule(model())


def test_accumulation_and_the_default_inference_mode_are_no_obstacle() -> None:
    module = TrainingModule(model(), [Trades()], num_classes=CLASSES, threat=Threat("l2", 0.5))
    validation = DataLoader(Rows("pair"), batch_size=16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = L.Trainer(
            max_epochs=1,
            accumulate_grad_batches=3,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, DataLoader(Rows("pair"), batch_size=16), validation)
        (found,) = trainer.validate(module, validation, verbose=False)
    assert trainer.global_step == 1
    accuracies = {"val/accuracy", "val/robust_accuracy", "val/worst_class_accuracy", "val/worst_class_robust_accuracy"}
    assert set(found) == {"val/nll", *accuracies}
    assert found["val/robust_accuracy"] <= found["val/accuracy"]


class Counts(Recipe):
    def __init__(self) -> None:
        super().__init__()
        self.draws: list[float] = []

    def mix(self, batch: Batch, step: Step) -> Batch:
        self.draws.append(float(torch.rand(())))
        return batch


def test_the_models_own_draws_are_keyed_by_seed_and_step() -> None:
    drawn = {}
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        counts = Counts()
        train(TrainingModule(model(), [counts], num_classes=CLASSES, seed=seed), Rows("pair"))
        drawn[name] = counts.draws
    assert drawn["first"] == drawn["again"]
    assert len({*drawn["first"], *drawn["other"]}) == 2 * len(drawn["first"])


class Stopper(Recipe):
    def on_step_end(self, batch: Batch, step: Step) -> None:
        if step.global_step == 1:
            step.stop("enough")


def test_a_recipe_can_stop_the_training_and_a_checkpoint_remembers_it() -> None:
    module = TrainingModule(model(), [Stopper()], num_classes=CLASSES)
    trainer = train(module, Rows("pair"), steps=9)
    assert trainer.global_step == 2
    kept: dict[str, Any] = {}
    module.on_save_checkpoint(kept)
    other = TrainingModule(model(), [], num_classes=CLASSES)
    other.on_load_checkpoint(kept)
    assert other.stop_reason == "enough"
    assert train(other, Rows("pair")).global_step == 0


class Blank(Recipe):
    """Takes all that was learnt away at each epoch's end, and remembers what was then measured."""

    def __init__(self, stops: int | None = None) -> None:
        super().__init__()
        self.stops, self.blanked, self.nll = stops, list[int](), list[float]()

    def on_step_end(self, batch: Batch, step: Step) -> None:
        if step.global_step == self.stops:
            step.stop("enough")

    def on_epoch_trained(self, step: Step) -> None:
        self.blanked.append(step.global_step)
        with torch.no_grad():
            for parameter in step.model.parameters():
                parameter.zero_()

    def on_epoch_end(self, step: Step, metrics: Mapping[str, float]) -> None:
        self.nll.append(metrics["val/nll"])


@pytest.mark.parametrize(("stops", "steps", "ends"), [(None, 5, [3, 5]), (3, 9, [3, 4])])
def test_what_a_recipe_puts_in_place_of_an_epochs_weights_is_what_is_validated(
    stops: int | None, steps: int, ends: list[int]
) -> None:
    blank = Blank(stops)
    train(TrainingModule(model(), [blank], num_classes=CLASSES), Rows("pair"), steps, validation=Rows("pair"))
    assert blank.blanked == ends  # also where the epoch is cut short
    assert blank.nll == pytest.approx([math.log(CLASSES)] * 2)


def test_weights_are_restored_before_the_optimiser_steps() -> None:
    class Far(Recipe):
        def perturb_weights(self, gradient: Any, step: Step) -> Mapping[str, Tensor]:
            return {name: 100 * torch.ones_like(p) for name, p in step.model.named_parameters()}

    network = model()
    before = [p.detach().clone() for p in network.parameters()]
    quiet = partial(sgd, lr=0.0)
    train(TrainingModule(network, [Far()], num_classes=CLASSES, optimizer=quiet), Rows("pair"), steps=1)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_a_classifier_is_taken_as_it_is() -> None:
    classifier = Classifier.wrap(model(), CLASSES)
    assert TrainingModule(classifier, num_classes=CLASSES).model is classifier


class Counting(Recipe):
    """Logs a value of its own in every step."""

    def on_step_end(self, batch: Batch, step: Step) -> None:
        step.log("steps_done", step.global_step + 1)


@pytest.mark.parametrize("every", [1, 50])
def test_terms_and_logged_values_reach_the_metrics_at_the_end(every: int) -> None:
    trainer = train(TrainingModule(model(), [Trades(), Counting()], CLASSES), Rows("pair"), log_every_n_steps=every)
    metrics = trainer.callback_metrics
    assert {"train/loss", "train/label_loss", "train/kl"} <= set(metrics)
    assert float(metrics["train/steps_done"]) == 3  # said after the last step


@pytest.mark.parametrize("name", ["loss", "lr"])
def test_the_runs_own_curves_are_no_recipes(name: str) -> None:
    class Greedy(Recipe):
        def on_step_end(self, batch: Batch, step: Step) -> None:
            step.log(name, 42.0)

    with pytest.raises(UserError, match=rf"step.log\('{name}', …\): train/{name} is the run's own"):
        train(TrainingModule(model(), [Greedy()], CLASSES), Rows("pair"))


class Notes(L.Callback):
    def __init__(self) -> None:
        self.seen: list[bool] = []

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.seen.append("train/kl" in trainer.callback_metrics)


def test_terms_are_logged_as_often_as_the_trainer_asks() -> None:
    notes = Notes()
    train(TrainingModule(model(), [Trades()], CLASSES), Rows("pair"), log_every_n_steps=2, callbacks=[notes])
    assert notes.seen == [False, True, True]
