"""What DeepSpeed's engine says of itself is what was asked for, and what it does is what DDP does."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from safetensors.torch import load_file
from torch import Tensor, nn

from poise.distributed import strategy
from poise.strategies import ZERO, zero_stage
from ranks import Pair
from small_runs import network, small_fit

BATCH, LR = 16, 0.05
CLIPPED = {"gradient_clip": 0.05, "accumulate": 2}
SPREAD = {"32-true": 1e-6, "bf16-mixed": 1e-4}  # of weights about 0.3


@contextmanager
def engines() -> Iterator[list[Any]]:
    """The engines that DeepSpeed makes meanwhile."""
    import deepspeed

    made, initialize = [], deepspeed.initialize

    def heard(*arguments: Any, **named: Any) -> Any:
        found = initialize(*arguments, **named)
        made.append(found[0])
        return found

    with patch.object(deepspeed, "initialize", heard):
        yield made


def run(run_dir: str, name: str, optimizer: str, trainer: dict[str, Any]) -> dict[str, Any]:
    """Train an epoch; what the engine said, where there is one, at its end."""
    settings = {"max_epochs": 1, "batch_size": BATCH, "block": 4, "devices": 2, **trainer}
    groups: dict[str, Any] = {"strategy": name, "calibration": "none", "schedule": "constant"}
    groups["optimizer"] = {"name": optimizer, "lr": LR, "layer_decay": 0.5}
    with engines() as made:
        small_fit(run_dir, trainer=settings, **groups)
    return said(made[0]) if made else {}


def said(engine: Any) -> dict[str, Any]:
    offload = {"optimizer": engine.zero_offload_optimizer(), "parameters": engine.zero_offload_param()}
    return {
        "stage": int(engine.zero_optimization_stage()),
        "offload": {name: str(part.device) for name, part in offload.items() if part is not None},
        "batch": engine.train_batch_size(),
        "rows": engine.train_micro_batch_size_per_gpu(),
        "accumulate": engine.gradient_accumulation_steps(),
        "gradient_clip": engine.gradient_clipping(),
        "autocast": str(engine.torch_autocast_dtype()) if engine.torch_autocast_enabled() else None,
        "halves": engine.fp16_enabled() or engine.bfloat16_enabled(),
        "parameters": sorted({str(parameter.dtype) for parameter in engine.module.parameters()}),
        "optimizer": type(engine.basic_optimizer).__name__,
        "lr": engine.get_lr(),
        "steps": engine.global_steps,
    }


def weights(run_dir: Path) -> dict[str, Tensor]:
    return load_file(run_dir / "predictor" / "model.safetensors")


def far(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((value.double() - other[name].double()).abs().max()) for name, value in one.items())


@pytest.fixture(scope="module")
def ddp(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs under DDP: clipped in parts, as a whole in bfloat16, as a whole and not clipped."""
    ways = {"clipped": CLIPPED, "bf16-mixed": {"precision": "bf16-mixed"}, "plain": {}}
    folders = {way: tmp_path_factory.mktemp(way) for way in ways}
    for way, trainer in ways.items():
        pair.run(run, str(folders[way]), "ddp", "sgd", trainer)
    return folders


def asked(name: str, **more: Any) -> dict[str, Any]:
    """What an engine should say under a strategy."""
    offload = {"optimizer": "cpu"} | ({"parameters": "cpu"} if zero_stage(name) == 3 else {})
    return {
        "stage": zero_stage(name),
        "offload": offload if name.endswith("_offload") else {},
        "batch": BATCH,
        "rows": BATCH // 2,
        "accumulate": 1,
        "gradient_clip": 0.0,
        "autocast": None,
        "halves": False,
        "parameters": ["torch.float32"],
        "optimizer": "SGD",
        "lr": [pytest.approx(LR), pytest.approx(LR / 2)],
        "steps": 4,
        **more,
    }


@pytest.mark.parametrize("name", ZERO)
def test_clipping_and_accumulation(pair: Pair, ddp: dict[str, Path], tmp_path: Path, name: str) -> None:
    found = pair.run(run, str(tmp_path), name, "sgd", CLIPPED)
    assert found == [asked(name, rows=BATCH // 4, accumulate=2, gradient_clip=0.05)] * 2
    assert far(weights(ddp["clipped"]), weights(tmp_path)) <= SPREAD["32-true"]
    assert far(weights(ddp["plain"]), weights(tmp_path)) > 1e-3


@pytest.mark.parametrize("name", ["deepspeed_zero1_offload", "deepspeed_zero2", "deepspeed_zero3"])
def test_mixed_precision_is_autocast_over_float32(pair: Pair, ddp: dict[str, Path], tmp_path: Path, name: str) -> None:
    found = pair.run(run, str(tmp_path), name, "sgd", {"precision": "bf16-mixed"})
    assert found == [asked(name, autocast="torch.bfloat16")] * 2
    assert far(weights(ddp["bf16-mixed"]), weights(tmp_path)) <= SPREAD["bf16-mixed"]
    assert far(weights(ddp["plain"]), weights(tmp_path)) > SPREAD["bf16-mixed"]


def test_the_optimiser_is_pytorchs_own(pair: Pair, tmp_path: Path) -> None:
    name = "deepspeed_zero2_offload"
    assert pair.run(run, str(tmp_path), name, "adamw", {}) == [asked(name, optimizer="AdamW")] * 2


def synchronised() -> bool:
    """Whether batch norm's layers are those of all ranks once the trainer asked for it."""
    chosen: Any = strategy("deepspeed_zero2", world_size=2, accelerator="cpu")
    chosen._layer_sync = TorchSyncBatchNorm()  # as `Trainer(sync_batchnorm=True)` does, on GPUs only
    return isinstance(chosen._setup_model(network()).features[1], nn.SyncBatchNorm)


def test_batch_norm_is_synchronised_where_asked(pair: Pair) -> None:
    assert pair.run(synchronised) == [True, True]
