"""`fit` from end to end, on real digits and on small data."""

import importlib.util
import json
import re
import signal
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from poise import Batch, Outcome, Predictor, Recipe, Result, Step, Task, checkpoint, fit
from poise.config import from_yaml, parse, to_yaml
from poise.data.dataset import Arrays, Splits
from poise.errors import UserError
from poise.run_directory import RunDirectory
from poise.train import run
from poise.watch import NonFiniteLoss
from poise_recipes import GroupDRO, Mixup, ProjectionHead, TemperatureScaling, Trades
from ranks import Pair
from small_runs import CLASSES, network, rows, small_fit, splits

SHORT = {"max_epochs": 2, "batch_size": 128, "progress": False}


@pytest.fixture(scope="module")
def trades(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The first example that people see."""
    return fit(
        recipe=[Trades(beta=6.0)],
        data="digits",
        model="small_cnn",
        trainer=SHORT,
        tracking="none",
        run_dir=str(tmp_path_factory.mktemp("runs") / "trades"),
    )


def test_the_result_has_every_metric(trades: Result) -> None:
    names = ["accuracy", "nll", "brier", "ece", "worst_class_accuracy", "robust_accuracy/pgd-20"]
    for name in names:
        assert trades.metrics[f"test/{name}"] >= 0
        assert trades.metrics[f"test/temperature_scaling/{name}"] >= 0
    assert trades.metrics["test/robust_accuracy/pgd-20"] <= trades.metrics["test/accuracy"]
    assert trades.metrics["test/accuracy"] == trades.metrics["test/temperature_scaling/accuracy"]
    assert trades.metrics["test/temperature_scaling/nll"] < trades.metrics["test/nll"]
    per_class = [trades.metrics[f"test/accuracy/class/{digit}"] for digit in range(10)]
    assert trades.metrics["test/worst_class_accuracy"] == min(per_class)


def test_the_run_directory_holds_all_that_is_promised(trades: Result) -> None:
    assert json.loads((trades.path / "report.json").read_text()) == trades.metrics
    files = {path.relative_to(trades.path).as_posix() for path in trades.path.rglob("*") if path.is_file()}
    assert {"config.yaml", "report.json", "log.txt"} <= files
    assert {"predictor/model.safetensors", "predictor/predictor.json"} <= files
    kept = [path for path in (trades.path / "checkpoints").iterdir() if path.is_dir()]
    assert 1 <= len(kept) <= 2
    assert all(checkpoint.read(path).ranks == 1 for path in kept)
    config = from_yaml((trades.path / "config.yaml").read_text())
    assert config.recipe["trades"].params["beta"] == 6.0
    assert config.recipe["pgd"].params["start"] == "normal"
    assert config.trainer.block_size == 16
    log = (trades.path / "log.txt").read_text()
    for said in ("epoch 1/2", "best epoch", "temperature_scaling", "robust_accuracy/pgd-20"):
        assert said in log
    told = (trades.path / "report.txt").read_text()
    assert re.search(r"^Epoch [12] of 2 was chosen by val/robust_accuracy=0\.\d{4}[.,]", told, re.MULTILINE)


def test_the_predictor_gives_the_reports_numbers(trades: Result) -> None:
    from poise.data.sources.digits import Digits

    test = Digits().load(0).test
    predictor = Predictor.load(trades.path)
    probabilities = predictor(test.x)
    assert probabilities.shape == (len(test), 10)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(len(test)))
    accuracy = float((probabilities.argmax(1) == test.label).double().mean())
    nll = float(nn.functional.nll_loss(probabilities.log(), test.label))
    assert accuracy == pytest.approx(trades.metrics["test/accuracy"], abs=1e-9)
    assert predictor.card.calibrator is not None
    assert nll == pytest.approx(trades.metrics[f"test/{predictor.card.calibrator['name']}/nll"], rel=1e-4)


def test_a_finished_run_is_reported_and_not_run_again(trades: Result, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in trades.path.rglob("*") if path.is_file()}
    again = run(from_yaml((trades.path / "config.yaml").read_text()))
    assert again == trades
    assert {path: path.stat().st_mtime_ns for path in trades.path.rglob("*") if path.is_file()} == before
    assert "is finished" in "".join(capsys.readouterr())


def test_another_config_in_its_directory_is_refused_key_by_key(trades: Result) -> None:
    with pytest.raises(UserError, match=r"recipe\.trades\.beta was 6\.0, now 5\.0; seed was 0, now 1"):
        fit(recipe=[Trades(beta=5.0)], trainer=SHORT, run_dir=str(trades.path), seed=1)
    with pytest.raises(UserError, match="holds a run already"):
        fit(recipe=[Trades(beta=6.0)], trainer=SHORT, run_dir=str(trades.path), resume="never")


def test_a_run_says_the_same_numbers_twice(tmp_path: Path) -> None:
    stacks = [[Trades(), Mixup(), GroupDRO()] for _ in range(2)]
    one, two = (small_fit(tmp_path / str(i), stack) for i, stack in enumerate(stacks))
    assert one.metrics == two.metrics
    other = small_fit(tmp_path / "other", [Trades(), Mixup(), GroupDRO()], seed=1)
    assert other.metrics != one.metrics


MINE = """
from poise_recipes import Trades

class Mine(Trades):
    def objective(self, batch, step):
        step.log("mine", 1.0)
        return super().objective(batch, step)
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    (tmp_path / "mine_in_tests.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    import mine_in_tests

    yield mine_in_tests
    del sys.modules["mine_in_tests"]


def test_ones_own_recipe_is_named_or_given(tmp_path: Path, mine: types.ModuleType) -> None:
    named = small_fit(tmp_path / "named", "mine_in_tests:Mine")
    given = small_fit(tmp_path / "given", [mine.Mine()])
    assert named.metrics == given.metrics == small_fit(tmp_path / "trades", [Trades()]).metrics
    assert "mine_in_tests:Mine" in (given.path / "config.yaml").read_text()


def test_a_recipe_of_a_notebook_trains_here_and_is_refused_where_processes_are_started(tmp_path: Path) -> None:
    class Mine(Trades):
        def objective(self, batch: Batch, step: Step) -> Outcome:
            return super().objective(batch, step)

    Mine.__module__ = "__main__"
    result = small_fit(tmp_path / "run", [Mine(beta=6.0), TemperatureScaling()])
    assert result.metrics == small_fit(tmp_path / "trades", [Trades(beta=6.0), TemperatureScaling()]).metrics
    assert Predictor.load(result.path, model=network())(rows(4, 9).x).shape == (4, CLASSES)
    with pytest.raises(UserError, match="Mine is defined in a notebook or script.*put it in a module"):
        small_fit(tmp_path / "two", [Mine()], trainer={"devices": 2, "block": 8})
    for objects in ({"model": network(), "data": "digits"}, {"model": "small_cnn", "data": splits()}):
        with pytest.raises(UserError, match=r"starts processes of its own.*given as"):
            small_fit(tmp_path / "two", trainer={"devices": 2, "block": 8}, **objects)
    assert not (tmp_path / "two").exists()


def test_data_come_from_a_file(tmp_path: Path) -> None:
    train, test = rows(60, 0), rows(24, 1)
    path = tmp_path / "data.npz"
    arrays = {"x_train": train.x, "y_train": train.label, "group_train": train.group}
    arrays |= {"x_test": test.x, "y_test": test.label, "group_test": test.group}
    np.savez(path, **{name: value.numpy() for name, value in arrays.items()})  # type: ignore[arg-type]
    result = small_fit(tmp_path / "run", [GroupDRO()], data={"name": "npz", "path": str(path)}, model="small_cnn")
    assert {"test/accuracy/group/0", "test/accuracy/group/1", "test/worst_group_accuracy"} <= set(result.metrics)


def test_groups_with_a_spurious_colour_are_trained_and_reported(tmp_path: Path) -> None:
    options: Any = {"data": "colored_digits", "model": "small_cnn", "trainer": SHORT, "evaluation": "clean"}
    options |= {"tracking": "none"}
    result = fit("group_dro", run_dir=str(tmp_path / "run"), **options)
    groups = [f"test/accuracy/group/{name}" for name in ("y=0,red", "y=0,green", "y=1,red", "y=1,green")]
    assert result.metrics["test/worst_group_accuracy"] == min(result.metrics[name] for name in groups)


class Diverges(Recipe):
    """A loss that stops being a number at one step."""

    def objective(self, batch: Batch, step: Step) -> Outcome:
        outcome = super().objective(batch, step)
        factor = torch.nan if step.global_step == 6 else 1.0
        return outcome.replace(loss=outcome.loss * factor, terms={"factor": torch.tensor(factor)})


@pytest.mark.parametrize("every", [None, 1])
def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, every: int | None
) -> None:
    with pytest.raises(NonFiniteLoss) as caught:
        small_fit(tmp_path / "run", [Diverges()], trainer={"checkpoint_every": every})
    good = 4 if every is None else 6
    for said in ("the loss of step 6 is not finite", "factor=nan", f"step-{good:08d}"):
        assert said in str(caught.value)
    kept = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert kept is not None
    assert kept.facts["step"] == good
    state = torch.load(kept.state, weights_only=True)["state_dict"]
    assert all(torch.isfinite(value).all() for value in state.values())
    assert not (tmp_path / "run" / "report.json").exists()


class DivergesOnOneRank(Diverges):
    def objective(self, batch: Batch, step: Step) -> Outcome:
        return super().objective(batch, step) if step.ranks.rank == 1 else Recipe.objective(self, batch, step)


def diverged(run_dir: str) -> str:
    with pytest.raises(NonFiniteLoss) as caught:
        small_fit(run_dir, [DivergesOnOneRank()], trainer={"devices": 2, "block": 8})
    return str(caught.value)


def test_every_rank_ends_where_one_has_no_number(pair: Pair, tmp_path: Path) -> None:
    for said in pair.run(diverged, str(tmp_path / "run")):
        assert "the loss of step 6 is not finite" in said
        assert "step-00000004" in said


class Shares(Recipe):
    """Notes what differs by rank: the mean of its share."""

    def penalty(self, outcome: Outcome, batch: Batch, step: Step) -> Tensor:
        step.log("share", batch.x.mean())
        return outcome.loss.mean() * 0


def curves(run_dir: str) -> list[str]:
    small_fit(run_dir, [Shares()], trainer={"devices": 2, "block": 8, "precision": "64-true", "max_epochs": 1})
    return re.findall(r"train/share=\S+", (Path(run_dir) / "log.txt").read_text())


def test_curves_are_those_of_the_whole_batch(pair: Pair, tmp_path: Path) -> None:
    ranks = pair.run(curves, str(tmp_path / "two"))
    settings = {"block": 8, "precision": "64-true", "max_epochs": 1}
    small_fit(tmp_path / "one", [Shares()], trainer=settings)
    assert ranks[0] == re.findall(r"train/share=\S+", (tmp_path / "one" / "log.txt").read_text())
    assert len(ranks[0]) == 1


def flat() -> Splits:
    """The small data as rows of numbers."""
    parts = {name: Arrays(part.x.flatten(1), part.label) for name, part in splits().main.items()}
    return Splits(**parts, num_classes=3, kind="tabular")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"recipe": "group_dro", "data": "digits", "model": "small_cnn"},
            "group_dro needs `groups`: use data with groups",
        ),
        ({"recipe": "trades,pgd_at"}, "trades and pgd_at both decide the objective"),
        ({"threat": {"eps": 8}}, r"eps.*8/255"),
        (
            {"trainer": {"batch_size": 12, "block": 8}},
            "batch_size=12 over 1 rank is 12 a rank, not a multiple of block=8",
        ),
        ({"trainer": {"batch_size": 128}}, "68 examples, fewer than batch_size=128"),
        (
            {"evaluation": {"name": "certify", "certify": {"n": 5}}},
            r"evaluation.certify: n=5 noisy copies prove nothing .* set n to 10 or more",
        ),
        (
            {"data": flat(), "model": nn.Linear(64, 3), "evaluation": "certify_dual"},
            r"evaluation=certify_dual: inputs of shape \(64,\) have no halves: .* or more do; leave it out",
        ),
        ({"recipe": "trads"}, "trads.*Did you mean 'trades'"),
    ],
)
def test_what_cannot_train_is_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        small_fit(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_labels_that_are_no_class_are_refused_where_they_stand() -> None:
    wrong = rows(68, 0)
    wrong.label[5] = 7
    with pytest.raises(UserError, match=r"train: label\[5\] is 7, allowed is 0 to 2"):
        splits(train=wrong)
    with pytest.raises(UserError, match="val is empty"):
        splits(
            val=Arrays(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
        )


def test_a_directory_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"run_dir=.*cannot be written: Not a directory"):
        small_fit(tmp_path / "file" / "run")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("")
    with pytest.raises(UserError, match=r"is not a run's: it holds notes\.txt"):
        small_fit(tmp_path / "full")


class Makes(Recipe):
    def after_fit(self, step: Step) -> dict[str, Tensor]:
        seen = step.predict("train")
        return {"errors": (seen.logits.argmax(1) != seen.label).double() + 0.5}


class Uses(Recipe):
    needs = frozenset({"table:errors"})

    def setup(self, task: Task, model: nn.Module) -> None:
        self.register_buffer("errors", task.tables["errors"].clone())

    def sample_weights(self, task: Task, epoch: int) -> Tensor:
        return self.errors


def test_a_table_of_one_run_is_read_by_the_next(tmp_path: Path) -> None:
    first = small_fit(tmp_path / "first", [Makes()])
    table = np.load(first.path / "tables" / "errors.npy")
    assert table.shape == (68,)
    uses = Uses()
    small_fit(tmp_path / "second", [uses], tables={"errors": str(first.path)})
    assert np.array_equal(uses.errors.numpy(), table)
    with pytest.raises(UserError, match=r"Uses needs `table:errors`: give tables\.errors=<file or run>"):
        small_fit(tmp_path / "third", [Uses()])
    with pytest.raises(UserError, match="made no such table"):
        small_fit(tmp_path / "third", [Uses()], tables={"errors": str(tmp_path / "second")})


def test_a_head_that_is_discarded_does_not_ship(tmp_path: Path) -> None:
    result = small_fit(tmp_path / "run", [ProjectionHead(width=8), Trades()], model="small_cnn")
    measured = [name for name in result.metrics if "projection_head/val_accuracy" in name]
    assert len(measured) == 3
    predictor = Predictor.load(result.path)
    assert type(predictor.model.head) is nn.Linear
    test = splits().test
    accuracy = float((predictor(test.x).argmax(1) == test.label).double().mean())
    assert accuracy == pytest.approx(result.metrics["test/accuracy"])


class Averages(Recipe):
    """Ships zeros, which no training would come to."""

    def setup(self, task: Task, model: nn.Module) -> None:
        self.names = {name: value.shape for name, value in model.state_dict().items()}

    def eval_weights(self) -> dict[str, Tensor]:
        return {
            name: torch.zeros(shape, dtype=torch.int64 if "tracked" in name else torch.float32)
            for name, shape in self.names.items()
        }


def test_what_a_recipe_gives_for_evaluation_is_what_ships(tmp_path: Path) -> None:
    result = small_fit(tmp_path / "run", [Averages()])
    predictor = Predictor.load(result.path, model=network())
    uniform = torch.full((2, CLASSES), 1 / CLASSES)
    torch.testing.assert_close(predictor(rows(2, 5).x), uniform)


class Stops(Recipe):
    def on_step_end(self, batch: Batch, step: Step) -> None:
        if step.global_step == 4:
            step.stop("it is good enough")


def test_a_recipe_may_end_the_training(tmp_path: Path) -> None:
    result = small_fit(tmp_path / "run", [Stops()])
    newest = checkpoint.newest(result.path / "checkpoints")
    assert newest is not None
    assert newest.facts["step"] == 5
    assert "stopped early: it is good enough" in (result.path / "log.txt").read_text()


def test_float64_is_kept_to_the_predictor(tmp_path: Path) -> None:
    result = small_fit(tmp_path / "run", trainer={"precision": "64-true"})
    predictor = Predictor.load(result.path, model=network())
    assert next(predictor.model.parameters()).dtype == torch.float64


def test_synchronised_batch_norm_is_refused_where_torch_has_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"trainer\.sync_batchnorm=true needs GPUs"):
        small_fit(tmp_path / "run", trainer={"sync_batchnorm": True, "accelerator": "cpu"})
    assert not (tmp_path / "run").exists()


def test_several_devices_train_in_processes_of_their_own(tmp_path: Path) -> None:
    options: Any = {"data": "digits", "model": "small_bn_cnn", "evaluation": "clean", "tracking": "none"}
    trainer = {**SHORT, "max_epochs": 1, "devices": 2}
    result = fit("mixup", trainer=trainer, run_dir=str(tmp_path / "run"), resume="never", **options)
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == result.metrics
    kept = checkpoint.newest(result.path / "checkpoints")
    assert kept is not None
    assert kept.ranks == 2
    assert Predictor.load(result.path)(torch.rand(3, 1, 8, 8)).shape == (3, 10)


def test_a_machine_of_a_slurm_job_is_any_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning would look for the job's other tasks, and requeue the job from a signal's handler."""
    job = {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "mine", "SLURM_NTASKS": "2", "SLURM_PROCID": "1"}
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    seen: list[Any] = []

    class Looks(Recipe):
        def on_step_end(self, batch: Batch, step: Step) -> None:
            handlers = {signal.getsignal(number).__module__ for number in (signal.SIGUSR1, signal.SIGTERM)}
            seen.append((step.ranks.size, handlers))

    small_fit(tmp_path / "run", {"looks": Looks()}, trainer={"max_steps": 1})
    assert seen == [(1, {"poise.stopping"})]


class Impatient(Recipe):
    """Somebody presses Ctrl-C in the second epoch."""

    def on_step_end(self, batch: Batch, step: Step) -> None:
        if step.global_step == 5:
            raise KeyboardInterrupt


def test_an_interrupted_run_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        small_fit(tmp_path / "run", {"impatient": Impatient()})
    assert str(caught.value) == (f"Interrupted: the same command with run_dir={tmp_path / 'run'} goes on from step 4.")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_strategy_that_is_not_installed_is_refused_before_a_rank_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "deepspeed" else real(n, *a))
    with pytest.raises(UserError, match="strategy=deepspeed_zero2 needs DeepSpeed, which is not installed: launch/"):
        fit(data="digits", strategy="deepspeed_zero2", trainer={"devices": 2}, run_dir=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


class FailsLater(Recipe):
    def on_step_end(self, batch: Batch, step: Step) -> None:
        if step.global_step == 2:
            raise KeyError("boo")


def test_where_a_run_failed_stands_in_its_log(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="boo"):
        small_fit(tmp_path / "run", FailsLater())
    written = (tmp_path / "run" / "log.txt").read_text()
    assert "the run failed" in written
    assert re.search(r'test_train.py", line \d+, in on_step_end', written)


def test_two_processes_do_not_train_in_one_directory(tmp_path: Path) -> None:
    path = tmp_path / "run"
    code = (
        f"import time\nfrom pathlib import Path\nfrom poise.run_directory import RunDirectory\n"
        f"with RunDirectory(Path({str(path)!r})).held():\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=r"run_dir=.* is in use: another process is at work there"):
            small_fit(path, trainer={"max_epochs": 1})
        other.kill()
    assert small_fit(path, trainer={"max_epochs": 1}).path == path


def test_a_calibrator_that_cannot_be_made_is_said_before_training(tmp_path: Path) -> None:
    wrong = {"name": "temperature_scaling", "temperature_scaling": {"lowest": 5.0, "highest": 1.0}}
    with pytest.raises(UserError, match="0 < lowest < highest"):
        small_fit(tmp_path / "run", calibration=wrong)
    assert not (tmp_path / "run").exists()


def test_what_comes_after_training_may_change_on_resuming(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.claim(to_yaml(parse([])))
    directory.check(to_yaml(parse(["calibration=none", "evaluation.adversarial.steps=3"])), resume=True)
    with pytest.raises(UserError, match="seed was 0, now 1"):
        directory.check(to_yaml(parse(["seed=1"])), resume=True)


@pytest.mark.parametrize(
    ("augment", "said"),
    [
        ({"name": "cutout"}, "augment.cutout.size=16 blackens pictures of 8x8"),
        (
            {"name": "random_resized_crop", "random_resized_crop": {"size": 6}},
            "with augment=, the model cannot take inputs of shape",
        ),
    ],
)
def test_augmentations_that_data_or_model_cannot_take_are_refused(tmp_path: Path, augment: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        fit(data="digits", model="mlp", augment=augment, tracking="none", run_dir=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_augmentation_of_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    tabular = {
        name: Arrays(torch.rand(30, 4), torch.arange(30) % 2) for name in ("train", "val", "calibration", "test")
    }
    data = Splits(**tabular, num_classes=2, kind="tabular", valid_range=None)
    with pytest.raises(UserError, match=r"augment=flip is for pictures .* and these inputs are \[4\]: augment=none"):
        fit(data=data, model="mlp", augment="flip", tracking="none", run_dir=str(tmp_path / "run"))
