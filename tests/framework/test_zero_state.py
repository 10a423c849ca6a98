"""A checkpoint of one strategy and number of ranks goes on under every other, and ends in the same weights."""

import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from forks import Forks
from poise import checkpoint
from poise.batch import Batch
from poise.models.small_cnn import small_cnn
from poise.recipe import Recipe, Task
from poise.step import Step
from poise.strategies import is_zero
from ranks import Pair, rank_environment
from small_runs import CLASSES, small_fit

SPREAD = 2e-6  # of float32, where weights are about 0.3
STEPS = 12  # of a run, four an epoch


class Halted(Exception):
    """What a test stops a run with."""


class Halts(Recipe):
    """Stops the run, once armed, at the end of a step; remembers what all ranks share, and has a weight of its own."""

    at_step: ClassVar[int | None] = None
    seen: Tensor

    def setup(self, task: Task, model: nn.Module) -> None:
        self.register_buffer("seen", torch.zeros(task.num_train, dtype=torch.float64))
        self.scale = nn.Parameter(torch.ones(3))

    def adjust(self, logits: Tensor, target: Tensor, batch: Batch, step: Step) -> tuple[Tensor, Tensor]:
        return logits * self.scale, target

    def on_step_end(self, batch: Batch, step: Step) -> None:
        assert batch.index is not None
        self.seen[step.ranks.gather(batch.index)] += 1 + step.progress
        if step.global_step + 1 == Halts.at_step:
            raise Halted

    def get_extra_state(self) -> dict[str, int]:
        return {"halted": 0}

    def set_extra_state(self, state: Any) -> None:
        assert state == {"halted": 0}


Halts.__module__ = "__main__"  # one name for the config, whichever process wrote it


@pytest.fixture(autouse=True)
def _unarmed() -> Iterator[None]:
    yield
    Halts.at_step = None


def recipe() -> list[Recipe]:
    from poise_recipes import GroupDRO, Mixup

    return [GroupDRO(eta=0.5), Mixup(), Halts()]


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return small_cnn(CLASSES, (1, 8, 8), width=5)  # numbers that no two ranks share equally


def trained(run_dir: str, strategy: str, devices: int, until: int | None, **options: Any) -> bool:
    """Train, from where a checkpoint stands, to a step or the end."""
    Halts.at_step = until
    settings = {"checkpoint_every": 1, "block": 4, "accumulate": 2, "devices": devices, **options.pop("trainer", {})}
    optimizer = {"name": "adamw", "lr": 0.01, "layer_decay": 0.7, "decay_norms_and_biases": False}
    groups = {"optimizer": optimizer, "model": network(), "strategy": strategy, "calibration": "none", **options}
    try:
        small_fit(run_dir, recipe(), trainer=settings, **groups)
    except Halted:
        return True
    return until is None


def on_one_rank_of_its_own(arguments: tuple[Any, ...], options: dict[str, Any]) -> bool:
    """`trained` in this process, which is for that alone, as a launcher's only rank."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    warnings.simplefilter("ignore")
    os.environ.update({**rank_environment(0, size=1), "MASTER_PORT": port})
    return trained(*arguments, **options)


def in_parts(pair: Pair, forks: Forks, run_dir: Path, parts: list[tuple[str, int]], **options: Any) -> dict[str, Any]:
    """Train in equal parts, each under a strategy on a number of ranks; what the last checkpoint holds."""
    for number, (strategy, ranks) in enumerate(parts, 1):
        until = STEPS * number // len(parts) + 1 if number < len(parts) else None
        arguments = (str(run_dir), strategy, ranks, until)
        if ranks == 2:
            assert pair.run(trained, *arguments, **options) == [True, True]
        elif is_zero(strategy):  # DeepSpeed would change this process
            assert forks.run(on_one_rank_of_its_own, arguments, options)
        else:
            assert trained(*arguments, **options)
    manifest = checkpoint.newest(run_dir / "checkpoints")
    assert manifest is not None
    assert manifest.facts["step"] == STEPS
    state = torch.load(manifest.state, weights_only=True)
    kept = {name: state[name] for name in ("state_dict", "optimizer_states", "lr_schedulers", "loops")}
    return kept | {"shipped": load_file(run_dir / "predictor" / "model.safetensors")}


def tensors(value: Any, where: str = "") -> dict[str, Any]:
    """Numbers and tensors of nested values, by where they stand."""
    if isinstance(value, dict):
        return {n: v for key, inner in value.items() for n, v in tensors(inner, f"{where}/{key}").items()}
    if isinstance(value, list | tuple):
        return {n: v for i, inner in enumerate(value) for n, v in tensors(inner, f"{where}/{i}").items()}
    return {where: value}


def far(one: dict[str, Any], other: dict[str, Any], limit: float) -> dict[str, float]:
    """Tensors that differ by more than a limit, and by how much; everything else is the same."""
    ones, others = tensors(one), tensors(other)
    assert ones.keys() == others.keys()
    found = {}
    for name, value in ones.items():
        if isinstance(value, Tensor):
            found[name] = float((value.double() - others[name].double()).abs().max())
        elif isinstance(value, float):
            assert value == pytest.approx(others[name], rel=1e-12)
        else:
            assert value == others[name], name
    return {name: distance for name, distance in found.items() if distance > limit}


def test_ddp_goes_on_on_another_number_of_ranks_to_float64s_last_digits(
    pair: Pair, forks: Forks, tmp_path: Path
) -> None:
    options = {"trainer": {"precision": "64-true"}}
    whole = in_parts(pair, forks, tmp_path / "whole", [("auto", 1)], **options)
    parts = in_parts(pair, forks, tmp_path / "parts", [("ddp", 2), ("auto", 1), ("ddp", 2)], **options)
    assert far(whole, parts, 1e-9) == {}


@pytest.fixture(scope="module")
def whole(pair: Pair, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an undisturbed run on one rank leaves."""
    return in_parts(pair, forks, tmp_path_factory.mktemp("whole"), [("auto", 1)])


@pytest.mark.parametrize(
    "strategies",
    [
        [("deepspeed_zero3", 2), ("auto", 1), ("deepspeed_zero1", 2), ("deepspeed_zero3_offload", 2)],
        [("ddp", 2), ("deepspeed_zero2_offload", 2), ("deepspeed_zero3", 1), ("deepspeed_zero2", 2)],
        [("deepspeed_zero1_offload", 2), ("deepspeed_zero1", 1), ("deepspeed_zero3", 2), ("ddp", 2)],
    ],
    ids=lambda strategies: ", ".join(f"{name.removeprefix('deepspeed_')} {ranks}" for name, ranks in strategies),
)
def test_each_strategy_goes_on_with_every_others_checkpoint(
    pair: Pair, forks: Forks, whole: dict[str, Any], tmp_path: Path, strategies: list[tuple[str, int]]
) -> None:
    assert far(whole, in_parts(pair, forks, tmp_path / "parts", strategies), SPREAD) == {}
