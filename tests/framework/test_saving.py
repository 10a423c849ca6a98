import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from poise import checkpoint, saving
from poise.batch import Batch
from poise.data.dataset import Arrays
from poise.distributed import Ranks, current_ranks
from poise.errors import UserError
from poise.recipe import Recipe
from poise.step import Step
from ranks import Pair
from small_runs import CLASSES, rows, small_fit, splits


def written(root: Path, step: int, score: float | None, state: dict[str, Any] | None = None, **facts: Any) -> None:
    def save(path: Path) -> None:
        path.write_bytes(b"state")

    facts = {"step": step, "score": score, "selection": "val/accuracy", **facts}
    checkpoint.write(root / f"step-{step:08d}", Ranks(), save, state, facts)


def test_the_best_checkpoint_has_the_greatest_score_and_is_the_earliest_of_equals(tmp_path: Path) -> None:
    assert saving.best(tmp_path) is None
    for step, score in ((2, None), (4, 0.5), (8, 0.75), (9, None), (12, 0.75), (16, 0.6)):
        written(tmp_path, step, score)
    chosen = saving.best(tmp_path)
    assert chosen is not None
    assert chosen.facts["step"] == 8
    written(tmp_path / "without", 3, None)
    assert saving.best(tmp_path / "without") is None


@pytest.mark.parametrize(
    ("losses", "step"),
    [
        ([0.3, 0.9, 0.7, 0.8], 3),
        ([0.3, 0.7, 0.7, 0.8], 2),
        ([0.3, math.nan, 0.7, math.inf], 3),
        ([0.3, math.nan, math.inf, None], 2),
        ([0.3, None, 0.7, 0.6], 4),  # an earlier version has noted none
        ([0.3, None, None, None], 2),
    ],
)
def test_of_equal_scores_the_lowest_loss_is_best_then_the_earliest(
    tmp_path: Path, losses: list[float | None], step: int
) -> None:
    for place, (score, loss) in enumerate(zip((0.5, 0.75, 0.75, 0.75), losses, strict=True), start=1):
        written(tmp_path, place, score, **({} if loss is None else {"metrics": {"val/nll": loss}}))
    chosen = saving.best(tmp_path)
    assert chosen is not None
    assert chosen.facts["step"] == step


def test_a_loss_is_best_where_it_is_lowest(tmp_path: Path) -> None:
    for step, loss in ((1, math.nan), (2, 0.75), (3, 0.5), (4, None), (5, 0.5), (6, 0.6)):
        written(tmp_path, step, loss, selection="val/nll", metrics={} if loss is None else {"val/nll": loss})
    chosen = saving.best(tmp_path)
    assert chosen is not None
    assert chosen.facts["step"] == 3


def test_of_damaged_checkpoints_the_next_best_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for step, score in ((1, 0.5), (2, 0.9), (3, 0.7), (4, None)):
        written(tmp_path, step, score)
    for step, left in ((2, 3), (3, 1)):
        (tmp_path / f"step-{step:08d}" / "state").write_bytes(b"stale")
        caplog.clear()
        chosen = saving.best(tmp_path)
        assert chosen is not None
        assert chosen.facts["step"] == left
        assert "step-00000002 is damaged: state was changed after it was written" in caplog.text
    (tmp_path / "step-00000001" / "state").unlink()
    with pytest.raises(UserError, match=f"no checkpoint of a validated epoch in {tmp_path} is whole: remove it"):
        saving.best(tmp_path)


class Spoils(Recipe):
    """Takes all classes for equally likely after each epoch but the first."""

    def on_epoch_trained(self, step: Step) -> None:
        if step.epoch:
            with torch.no_grad():
                for parameter in step.model.head.parameters():
                    parameter.zero_()


def test_a_run_whose_best_checkpoint_is_damaged_ships_the_next_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise ValueError("no evaluation yet")

    with monkeypatch.context() as patch:
        patch.setattr("poise.train.evaluate", interrupted)
        with pytest.raises(ValueError, match="no evaluation yet"):
            small_fit(tmp_path / "run", [Spoils()])
    root = tmp_path / "run" / "checkpoints"
    chosen = saving.best(root)
    assert chosen is not None
    chosen.state.write_bytes(chosen.state.read_bytes()[:-1])
    following = saving.best(root)
    assert following is not None
    small_fit(tmp_path / "run", [Spoils()])
    assert f"{chosen.directory} is damaged: state has" in capsys.readouterr().err
    shipped = load_file(tmp_path / "run" / "predictor" / "model.safetensors")
    kept = load_file(following.directory / saving.WEIGHTS)
    for name in set(shipped) & set(kept):
        assert torch.equal(shipped[name], kept[name])
    assert set(shipped) & set(kept)


def test_state_of_ranks_is_their_own_on_as_many_and_averaged_on_others(tmp_path: Path) -> None:
    class Two(Ranks):
        size = 2

    states = [
        {
            "model.bn.running_mean": torch.full((2,), float(rank)),
            "stack.free.delta": torch.ones(3),
            "seen": torch.tensor(rank),
        }
        for rank in range(2)
    ]
    written(tmp_path, 1, 0.0, states[0])
    torch.save(states[1], tmp_path / "step-00000001" / "rank-1.pt")
    manifest = checkpoint.Manifest(tmp_path / "step-00000001", {}, ranks=2)
    assert torch.equal(saving.rank_state(manifest, Two())["stack.free.delta"], torch.ones(3))
    alone = saving.rank_state(manifest, Ranks())
    assert list(alone) == ["model.bn.running_mean"]
    assert torch.equal(alone["model.bn.running_mean"], torch.full((2,), 0.5))


def averaged(directory: str) -> dict[str, Tensor]:
    """In a rank: what two ranks take up of three."""
    return saving.rank_state(checkpoint.Manifest(Path(directory), {}, ranks=3), current_ranks())


def test_ranks_share_the_reading_of_what_more_of_them_kept(pair: Pair, tmp_path: Path) -> None:
    values = [{"model.bn.running_mean": torch.rand(2), "model.bn.running_var": torch.rand(2, 3)} for _ in range(3)]
    written(tmp_path, 1, 0.0, values[0])
    for rank in (1, 2):
        torch.save(values[rank], tmp_path / "step-00000001" / f"rank-{rank}.pt")
    for found in pair.run(averaged, str(tmp_path / "step-00000001")):
        assert found.keys() == values[0].keys()
        for name, value in found.items():
            torch.testing.assert_close(value, torch.stack([kept[name] for kept in values]).mean(0))


class Looks(Recipe):
    """Notes which checkpoints stand after each step."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.seen: list[list[int]] = []
        self.weights: dict[int, dict[str, torch.Tensor]] = {}

    def __deepcopy__(self, memo: object) -> "Looks":
        return self

    def on_step_end(self, batch: Batch, step: Step) -> None:
        self.seen.append(sorted(int(path.name.removeprefix("step-")) for path in self.root.glob("step-*")))
        state = step.model.state_dict()
        self.weights[step.global_step + 1] = {name: value.clone() for name, value in state.items()}


def test_the_best_the_newest_and_the_one_before_are_kept_and_hold_the_weights_of_their_step(tmp_path: Path) -> None:
    root = tmp_path / "run" / "checkpoints"
    looks = Looks(root)
    small_fit(tmp_path / "run", [looks], trainer={"checkpoint_every": 2, "max_epochs": 2})
    assert looks.seen == [[], [], [2], [2], [2, 4], [2, 4], [4, 6], [4, 6]]
    best, newest = saving.best(root), checkpoint.newest(root)
    assert best is not None
    assert newest is not None
    assert newest.facts["step"] == 8
    for manifest in (best, newest):
        kept = load_file(manifest.directory / saving.WEIGHTS)
        for name, value in looks.weights[manifest.facts["step"]].items():
            assert torch.equal(kept[f"model.{name}"], value)
    assert best.facts["score"] == best.facts["metrics"]["val/accuracy"]


def test_a_run_cut_short_inside_an_epoch_is_validated_where_it_ends(tmp_path: Path) -> None:
    small_fit(tmp_path / "run", trainer={"max_steps": 6, "checkpoint_every": 3})
    best = saving.best(tmp_path / "run" / "checkpoints")
    newest = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert best is not None
    assert newest is not None
    assert newest.facts["step"] == 6
    assert newest.facts["score"] == newest.facts["metrics"]["val/accuracy"]


@pytest.mark.parametrize(
    ("selection", "why"),
    [
        ("elegance", "it is no metric of the validation"),
        ("robust_accuracy", "no recipe attacks"),
        ("worst_group_accuracy", "the validation examples have no groups"),
    ],
)
def test_a_metric_that_nothing_gives_chooses_no_epoch(tmp_path: Path, selection: str, why: str) -> None:
    val = rows(24, 1)
    with pytest.raises(UserError) as caught:
        small_fit(tmp_path / "run", selection=selection, data=splits(val=Arrays(val.x, val.label)))
    said = f"selection={selection} chooses no epoch here ({why}); it is one of accuracy, worst_class_accuracy, "
    assert str(caught.value).startswith(said)
    assert not (tmp_path / "run").exists()


class Favours(Recipe):
    """Takes class 2 for class 0 after the first epoch, and all of the second group after the second."""

    def on_epoch_trained(self, step: Step) -> None:
        weight = torch.eye(CLASSES, 8)[:, :, None].repeat(1, 1, 8)
        if step.epoch == 0:
            weight[2] = 0
        else:
            weight[0, 7, 7] = 100
        step.model.head.load_state_dict({"weight": weight.flatten(1), "bias": torch.zeros(CLASSES)})


@pytest.mark.parametrize(("selection", "epoch"), [("worst_class_accuracy", 2), ("worst_group_accuracy", 1)])
def test_the_worst_class_or_group_may_choose_the_epoch(tmp_path: Path, selection: str, epoch: int) -> None:
    val = rows(24, 1)
    assert val.group is not None
    val.x[:, 0, 7, 7] = val.group.float()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))
    options: dict[str, Any] = {"data": splits(val=val), "model": model, "evaluation": "none", "calibration": "none"}
    small_fit(tmp_path / "run", [Favours()], {"max_epochs": 2}, selection=selection, **options)
    best = saving.best(tmp_path / "run" / "checkpoints")
    assert best is not None
    assert best.facts["epoch"] + 1 == epoch
