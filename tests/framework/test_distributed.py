"""Ranks against a computation on one rank, and every strategy against the others on the same batches."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.distributed
from torch import Tensor, nn

from poise.distributed import Ranks, current_ranks, full_state, load_full_state, strategy
from poise.errors import UserError
from poise.strategies import ZERO, zero_stage
from ranks import Pair


class Tiny(L.LightningModule):
    """A network with a buffer, an input gradient and a weight gradient inside its step, as recipes have."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 24), nn.ReLU(), nn.Linear(24, 3)
        )
        self.register_buffer("seen", torch.zeros(()))
        self.dtypes: set[torch.dtype] = set()
        self.norms: list[float] = []

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        x, y = batch
        self.dtypes |= {x.dtype, self.network(x).dtype}
        self.seen += len(x)
        x_adv = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.loss(x_adv, y), x_adv)
        x_adv = (x + 0.01 * gradient.sign()).detach()
        weights = [p for p in self.network.parameters() if p.requires_grad]
        inner = torch.autograd.grad(self.loss(x_adv, y), weights)
        self.norms.append(sum(float(g.float().square().sum()) for g in inner))
        return self.loss(x_adv, y)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.network(x).float(), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.5, momentum=0.9)


class Shard(torch.utils.data.IterableDataset[tuple[Tensor, Tensor]]):
    """This rank's rows of each micro-batch of 4 rows in all."""

    def __init__(self, start: int, stop: int) -> None:
        self.steps = range(start, stop)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        ranks = current_ranks()
        rows = 4 // ranks.size
        for step in self.steps:
            generator = torch.Generator().manual_seed(step)
            x = torch.rand(4, 1, 8, 8, generator=generator)
            y = torch.randint(3, (4,), generator=generator)
            mine = slice(ranks.rank * rows, (ranks.rank + 1) * rows)
            yield x[mine], y[mine]


def train(
    name: str,
    stop: int,
    start: int = 0,
    devices: int = 2,
    precision: Any = "32-true",
    resume: str | None = None,
    save: str | None = None,
    clip: float | None = 0.05,
    accumulate: int = 2,
    deepspeed: str | None = None,
) -> tuple[Tiny, L.Trainer]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice about workers and the like
        chosen = strategy(name, world_size=devices, accelerator="cpu", precision=precision, deepspeed=deepspeed)
        if zero_stage(name) == 3:
            chosen.config["zero_optimization"]["stage3_param_persistence_threshold"] = 0  # type: ignore[union-attr]
        module = Tiny()
        trainer = L.Trainer(
            accelerator="cpu",
            devices=devices,
            strategy=chosen,
            precision=precision,
            max_steps=stop // accumulate,
            gradient_clip_val=clip,
            accumulate_grad_batches=accumulate,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            inference_mode=False,
        )
        trainer.fit(module, torch.utils.data.DataLoader(Shard(start, stop), batch_size=None), ckpt_path=resume)
        if save is not None:
            trainer.save_checkpoint(save)
    return module, trainer


def trained(name: str, **options: Any) -> tuple[dict[str, Tensor], set[torch.dtype], int, list[float]]:
    module, trainer = train(name, 8, **options)
    return full_state(trainer, module), module.dtypes, trainer.global_step, module.norms


def engine(name: str, deepspeed: str) -> dict[str, Any]:
    """What DeepSpeed says that it does."""
    _, trainer = train(name, 2, deepspeed=deepspeed)
    running = trainer.strategy.deepspeed_engine  # type: ignore[attr-defined]
    optimizer, parameters = running.zero_offload_optimizer(), running.zero_offload_param()
    return {
        "stage": running.zero_optimization_stage(),
        "offloads": [str(part.device) for part in (optimizer, parameters) if part is not None],
        "clipping": running.gradient_clipping(),
        "accumulation": running.gradient_accumulation_steps(),
        "bucket": running.zero_reduce_bucket_size(),
        "prefetch": running.zero_prefetch_bucket_size(),
    }


def refused(name: str, deepspeed: str) -> str:
    try:
        train(name, 2, deepspeed=deepspeed)
    except UserError as error:
        return str(error)
    return ""


def refilled(name: str) -> tuple[bool, bool]:
    """Whether weights put back are what full_state reads then, and what the module computes with."""
    module, trainer = train(name, 4)
    state = full_state(trainer, module.network)
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    halved = {key: value / 2 for key, value in state.items()}
    load_full_state(trainer, module.network, halved)
    again = full_state(trainer, module.network)
    plain = Tiny().network
    plain.load_state_dict(halved)
    same_weights = all(torch.equal(again[key], halved[key]) for key in halved)
    return same_weights, torch.allclose(module.network(x).float(), plain(x))


def resumed(name: str, folder: str, **options: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of an undisturbed run of 8 batches, and those of one cut in two and resumed."""
    module, trainer = train(name, 8, **options)
    whole = full_state(trainer, module)
    train(name, 4, save=f"{folder}/{name}", **options)
    module, trainer = train(name, 8, start=4, resume=f"{folder}/{name}", **options)
    return whole, full_state(trainer, module)


def reductions() -> dict[str, Any]:
    ranks = current_ranks()
    value = torch.arange(6.0, dtype=torch.float64).reshape(2, 3) * (1 + ranks.rank)
    kept = value.clone()
    rows = torch.full((ranks.rank * 2, 2), ranks.rank, dtype=torch.int64)
    half = torch.ones(3, dtype=torch.bfloat16)
    results = {
        "rank": (ranks.rank, ranks.size),
        "sum": ranks.sum(value),
        "mean": ranks.mean(value),
        "max": ranks.max(-value),
        "scalar": ranks.sum(torch.tensor(ranks.rank + 1)),
        "transposed": ranks.sum(value.T),
        "gather": ranks.gather(value),
        "collect": ranks.collect(rows),
        "nothing": ranks.collect(rows[:0]),
        "flags": ranks.collect(torch.tensor([ranks.rank == 1])),
        "dtypes": [ranks.sum(half).dtype, ranks.mean(half).dtype, ranks.gather(half).dtype],
        "untouched": torch.equal(value, kept),
    }
    ranks.barrier()
    return results


def penalty(ranks: Ranks, weight: Tensor, x: Tensor) -> Tensor:
    """A loss that couples all ranks' examples in every way that has a gradient, twice."""
    h = (x * weight).sin()
    mean = ranks.mean(h.mean(0))
    total = ranks.sum((h**2).sum(0))
    everyone = ranks.gather(h)
    contrast = (h @ everyone.T).logsumexp(1).mean()
    (slope,) = torch.autograd.grad(ranks.mean((h**3).mean()), weight, create_graph=True)
    return contrast + (mean**2).sum() + 0.1 * total.sqrt().sum() + ranks.mean(slope).square().sum()


def gradient_of_the_mean(x: Tensor) -> Tensor:
    """What DDP would step along: the mean over ranks of each rank's gradient."""
    ranks = current_ranks()
    weight = torch.linspace(0.5, 1.5, x.shape[1], dtype=torch.float64, requires_grad=True)
    rows = len(x) // ranks.size
    mine = x[ranks.rank * rows : (ranks.rank + 1) * rows]
    (gradient,) = torch.autograd.grad(penalty(ranks, weight, mine), weight)
    return ranks.mean(gradient)


def test_one_rank_is_the_identity() -> None:
    ranks = current_ranks()
    value = torch.rand(3, 2, requires_grad=True)
    assert (ranks.size, ranks.rank) == (1, 0)
    for operation in (ranks.sum, ranks.mean, ranks.gather):
        assert operation(value) is value
    for operation in (ranks.max, ranks.collect):
        assert torch.equal(operation(value), value)
        assert not operation(value).requires_grad


def test_reductions_over_two_ranks(pair: Pair) -> None:
    base = torch.arange(6.0, dtype=torch.float64).reshape(2, 3)
    for rank, got in enumerate(pair.run(reductions)):
        assert got["rank"] == (rank, 2)
        assert torch.equal(got["sum"], 3 * base)
        assert torch.equal(got["mean"], 1.5 * base)
        assert torch.equal(got["max"], -base)
        assert got["scalar"].item() == 3
        assert got["scalar"].dtype == torch.int64
        assert torch.equal(got["transposed"], 3 * base.T)
        assert torch.equal(got["gather"], torch.cat([base, 2 * base]))
        assert torch.equal(got["collect"], torch.ones(2, 2, dtype=torch.int64))
        assert got["nothing"].shape == (0, 2)
        assert got["flags"].tolist() == [False, True]
        assert got["dtypes"] == [torch.bfloat16] * 3
        assert got["untouched"]


def test_a_coupled_loss_has_the_same_gradient_on_one_rank_and_on_two(pair: Pair) -> None:
    x = torch.rand(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    alone = gradient_of_the_mean(x)
    # `total` is a sum over examples in both, contrast a mean: the one-rank value is the formula itself
    for got in pair.run(gradient_of_the_mean, x):
        torch.testing.assert_close(got, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("clip", [None, 0.05])
def test_zero_equals_ddp(pair: Pair, clip: float | None) -> None:
    """Accumulation 2; without clipping, a loss divided twice by it would show in the weights."""
    expected, _, steps, norms = pair.run(trained, "ddp", clip=clip)[0]
    start = Tiny().state_dict()
    assert (expected["network.3.weight"] - start["network.3.weight"]).abs().max() > 5e-3
    for name in ZERO:
        for state, dtypes, own_steps, own_norms in pair.run(trained, name, clip=clip):
            assert dtypes == {torch.float32}
            assert own_steps == steps == 4
            assert set(state) == set(expected)
            for key, value in expected.items():
                torch.testing.assert_close(state[key], value, rtol=0, atol=1e-6)
            assert len(own_norms) == len(norms) == 8


@pytest.mark.parametrize("name", ZERO)
def test_deepspeed_does_what_was_asked(pair: Pair, tmp_path: Path, name: str) -> None:
    own = tmp_path / "my.json"
    own.write_text('{"zero_optimization": {"reduce_bucket_size": 300, "stage3_prefetch_bucket_size": 70}}')
    offloads = (["cpu", "cpu"] if zero_stage(name) == 3 else ["cpu"]) if name.endswith("_offload") else []
    asked = {"stage": zero_stage(name), "offloads": offloads, "clipping": 0.05, "accumulation": 2, "bucket": 300}
    assert pair.run(engine, name, str(own)) == [asked | {"prefetch": 70}] * 2


def test_a_setting_that_deepspeed_does_not_know(pair: Pair, tmp_path: Path) -> None:
    own = tmp_path / "my.json"
    own.write_text('{"zero_optimization": {"bucket_size": 300}}')
    said = "DeepSpeed does not take what deepspeed= says: bucket_size: Extra inputs are not permitted. Did you mean "
    said += "'reduce_bucket_size'?"
    assert pair.run(refused, "deepspeed_zero2", str(own)) == [said] * 2


@pytest.mark.parametrize("name", ["ddp", *ZERO])
def test_resume_is_bitwise_on_as_many_ranks(pair: Pair, tmp_path: Path, name: str) -> None:
    for whole, cut in pair.run(resumed, name, str(tmp_path)):
        assert all(torch.equal(whole[key], cut[key]) for key in whole)


@pytest.mark.parametrize("name", ["ddp", *ZERO])
def test_whole_weights_come_out_and_go_in(pair: Pair, name: str) -> None:
    assert pair.run(refilled, name) == [(True, True)] * 2


def test_mixed_precision_keeps_inputs_and_parameters_in_float32(pair: Pair) -> None:
    expected, dtypes, _, _ = pair.run(trained, "ddp", precision="bf16-mixed")[0]
    assert dtypes == {torch.float32, torch.bfloat16}
    for name in ("deepspeed_zero2", "deepspeed_zero3"):
        state, own_dtypes, _, _ = pair.run(trained, name, precision="bf16-mixed")[0]
        assert own_dtypes == dtypes
        for key, value in expected.items():
            assert state[key].dtype == torch.float32
            torch.testing.assert_close(state[key], value, rtol=0, atol=1e-4)


def test_auto_is_one_device_or_ddp() -> None:
    assert strategy("auto", world_size=1, accelerator="cpu") == "auto"
    several = strategy("auto", world_size=2, accelerator="cpu", find_unused_parameters=True)
    assert several._ddp_kwargs == {"broadcast_buffers": False, "find_unused_parameters": True}  # type: ignore[union-attr]
    assert several.process_group_backend == "gloo"  # type: ignore[union-attr]
    assert strategy("ddp", world_size=2, accelerator="gpu").process_group_backend == "nccl"  # type: ignore[union-attr]


def test_wrong_use_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(name: str, precision: str = "32-true") -> None:
        strategy(name, world_size=2, accelerator="cpu", precision=precision)

    with pytest.raises(UserError, match="deepspeed_zero4 is not known.*Did you mean 'deepspeed_zero"):
        ask("deepspeed_zero4")
    for precision in ("16-mixed", "16-true"):
        with pytest.raises(UserError, match=f"precision={precision}.*float16.*bf16-mixed"):
            ask("ddp", precision)
    with pytest.raises(UserError, match="precision=64-tru is not known.*Did you mean '64-true'"):
        ask("ddp", "64-tru")
    with pytest.raises(UserError, match="deepspeed_zero2 trains in float32.*strategy=ddp"):
        ask("deepspeed_zero2", "64-true")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"launch/setup.sh deepspeed in a checkout"):
        ask("deepspeed_zero1")
