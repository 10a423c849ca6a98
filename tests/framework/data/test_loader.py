"""Loaders: whole batches, every evaluation example once, and resuming under a trainer."""

import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from poise.data.dataset import Arrays, Splits
from poise.data.loader import EvaluationLoader, TrainLoader
from poise.data.module import DataModule
from poise.data.sampler import EpochSampler
from poise.data.stored import Stored
from poise.errors import UserError

# Lightning's data loops call what newer releases of torch deprecate
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")

N = 26


def _arrays(n: int) -> Arrays:
    return Arrays(torch.arange(n, dtype=torch.float32)[:, None] / 100, torch.arange(n) % 2, torch.arange(n) % 3)


class _Stored(Stored):
    """A tensor's rows."""

    def __init__(self, values: Tensor) -> None:
        super().__init__(values.shape, values.dtype)
        self.values = values

    def read(self, positions: Tensor) -> Tensor:
        return self.values[positions]


def _stored(n: int) -> Arrays:
    return Arrays(_Stored(_arrays(n).x[:]), _arrays(n).label)


def _splits(**changes: Any) -> Splits:
    return Splits(
        train=_arrays(N),
        val=_arrays(11),
        calibration=_arrays(5),
        test=_arrays(7),
        num_classes=2,
        class_names=("a", "b"),
        **changes,
    )


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 5))
def test_evaluation_sees_every_example_once(n: int, batch_size: int, ranks: int) -> None:
    data = _arrays(n)
    if n < ranks:
        with pytest.raises(UserError, match=f"a split of {n} examples cannot be shared by {ranks} ranks"):
            EvaluationLoader(data, batch_size, ranks, 0)
        return
    loaders = [EvaluationLoader(data, batch_size, ranks, rank) for rank in range(ranks)]
    batches = [list(loader) for loader in loaders]
    assert {len(b) for b in batches} == {len(loaders[0])}
    for rank, of_rank in enumerate(batches):
        position = torch.cat([batch["position"] for batch in of_rank])
        assert position.tolist() == list(range(rank, n, ranks))
        assert all(1 <= len(batch["position"]) <= batch_size + 1 for batch in of_rank)
        for batch in of_rank:
            assert torch.equal(batch["x"], data.x[batch["position"]])
            assert torch.equal(batch["group"], data.group[batch["position"]])


def test_training_batches_carry_streams() -> None:
    splits = _splits(streams={"unlabelled": _arrays(4), "other": _arrays(3)})
    batch = next(iter(DataModule(splits, batch_size=8).train_dataloader()))
    assert set(batch) == {"x", "label", "index", "group", "streams"}
    assert set(batch["streams"]) == {"unlabelled", "other"}
    stream = batch["streams"]["unlabelled"]
    assert sorted(stream["index"].tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert torch.equal(stream["x"], splits.streams["unlabelled"].x[stream["index"]])
    chosen = next(iter(DataModule(splits, batch_size=8, streams=["other"]).train_dataloader()))
    assert set(chosen["streams"]) == {"other"}
    assert "streams" not in next(iter(DataModule(splits, batch_size=8, streams=[]).train_dataloader()))
    with pytest.raises(UserError, match="no stream 'unlabeled'. Did you mean 'unlabelled'"):
        DataModule(splits, batch_size=8, streams=["unlabeled"])


def test_evaluation_loaders_by_name() -> None:
    data = DataModule(_splits(shifts={"fog": _arrays(9)}, ood={"noise": _arrays(3)}), 8, eval_batch_size=4)
    sizes = {"val": 11, "calibration": 5, "test": 7, "train": N, "shifts.fog": 9, "ood.noise": 3}
    for name, size in sizes.items():
        loader = data.evaluation_loader(name)
        assert torch.cat([batch["index"] for batch in loader]).tolist() == list(range(size))
    with pytest.raises(UserError, match="no split 'tests', only train, .*Did you mean 'test'"):
        data.evaluation_loader("tests")


def test_a_block_that_does_not_fit_is_found_with_the_loader() -> None:
    data = DataModule(_splits(), batch_size=8, accumulate=2, block=8)
    with pytest.raises(UserError, match=r"batch_size=8 over 1 rank and 2 micro-batches is 4 .* block=8"):
        data.train_dataloader()
    assert DataModule(_splits(), batch_size=24).block == 8


def test_a_checkpoint_of_another_order_is_refused() -> None:
    def loader(**changes: int) -> TrainLoader:
        sizes = {"size": N, "batch_size": 8, "seed": 0, **changes}
        return TrainLoader(_arrays(N), EpochSampler(**sizes))

    loader(ranks=2).load_state_dict(loader().state_dict())
    with pytest.raises(UserError, match="cannot be continued: seed was 0 and is 1, replays was 1 and is 2"):
        loader(seed=1, replays=2).load_state_dict(loader().state_dict())


class Recorder(L.LightningModule):
    """Writes down what it was trained on; saves once, after a number of batches."""

    def __init__(self, save_after: int = 0, path: Path | None = None, hook: str = "batch_end") -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.save_after, self.path, self.hook = save_after, path, hook
        self.seen: list[tuple[int, list[int], list[int]]] = []
        self.seen_at_save = -1

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        self.seen.append((self.current_epoch, batch["index"].tolist(), batch["streams"]["u"]["index"].tolist()))
        return self.layer(batch["x"]).square().mean()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.layer(batch["x"])

    def on_train_batch_end(self, outputs: object, batch: object, batch_idx: int) -> None:
        if self.hook == "batch_end":
            self._save()

    def on_validation_end(self) -> None:
        if self.hook == "validation_end":
            self._save()

    def on_train_epoch_end(self) -> None:
        if self.hook == "epoch_end":
            self._save()

    def _save(self) -> None:
        if self.path is not None and len(self.seen) >= self.save_after and self.seen_at_save < 0:
            self.trainer.save_checkpoint(self.path)
            self.seen_at_save = len(self.seen)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def _fit(model: Recorder, folder: Path, resume: Path | None = None, **settings: Any) -> Recorder:
    accumulate, read_ahead = settings.pop("accumulate", 1), settings.pop("read_ahead", False)
    trainer = L.Trainer(
        max_epochs=3,
        accelerator="cpu",
        devices=1,
        accumulate_grad_batches=accumulate,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
        num_sanity_val_steps=0,
        **settings.pop("trainer", {}),
    )
    splits = _splits(streams={"u": _stored(7) if read_ahead else _arrays(7)})
    data = DataModule(splits, batch_size=8, accumulate=accumulate, block=4, **settings)
    trainer.fit(model, datamodule=data, ckpt_path=resume)
    return model


@pytest.mark.parametrize("hook", ["batch_end", "validation_end", "epoch_end"])
@pytest.mark.parametrize(("accumulate", "replays"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_a_resumed_run_sees_what_an_undisturbed_one_sees(
    tmp_path: Path, hook: str, accumulate: int, replays: int
) -> None:
    length = 3 * accumulate * replays
    settings = {"accumulate": accumulate, "replays": replays}
    undisturbed = _fit(Recorder(), tmp_path, **settings).seen
    assert len(undisturbed) == 3 * length
    assert [a[1] for a in undisturbed[:length]] != [a[1] for a in undisturbed[length : 2 * length]]
    points = [length // 2, length, length + length // 2, 2 * length] if hook == "batch_end" else [length, 2 * length]
    for point in points:
        path = tmp_path / f"{hook}-{point}.ckpt"
        first = _fit(Recorder(point, path, hook), tmp_path, **settings)
        assert first.seen == undisturbed
        assert first.seen_at_save == point
        resumed = _fit(Recorder(), tmp_path, resume=path, **settings)
        assert resumed.seen == undisturbed[point:], f"resumed after {point} batches"


def test_saved_by_a_validation_in_mid_epoch(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"replays": 2}
    trainer = {"val_check_interval": 2}
    undisturbed = _fit(Recorder(), tmp_path, trainer=trainer, **settings).seen
    for point in (4, 8, 10):
        path = tmp_path / f"{point}.ckpt"
        first = _fit(Recorder(point, path, "validation_end"), tmp_path, trainer=trainer, **settings)
        assert first.seen_at_save == point
        resumed = _fit(Recorder(), tmp_path, resume=path, trainer=trainer, **settings)
        assert resumed.seen == undisturbed[point:]


def test_reading_ahead_changes_no_resumed_run(tmp_path: Path) -> None:
    undisturbed = _fit(Recorder(), tmp_path).seen
    path = tmp_path / "4.ckpt"
    assert _fit(Recorder(4, path), tmp_path, read_ahead=True).seen == undisturbed
    assert _fit(Recorder(), tmp_path, resume=path, read_ahead=True).seen == undisturbed[4:]
    stopped = _fit(Recorder(), tmp_path, read_ahead=True, trainer={"max_steps": 1})
    assert stopped.seen == undisturbed[:1]
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("poise-data")]


def test_epochs_of_a_run_differ_and_streams_go_round(tmp_path: Path) -> None:
    seen = _fit(Recorder(), tmp_path).seen
    epochs = [[row for e, rows, _ in seen if e == epoch for row in rows] for epoch in range(3)]
    assert all(len(set(epoch)) == 24 for epoch in epochs)
    assert all(a != b for a, b in pairwise(epochs))
    stream = [row for _, _, rows in seen for row in rows]
    assert all(sorted(stream[i : i + 7]) == list(range(7)) for i in range(0, 70, 7))
