"""What `poise plan` takes beside a config, and what it refuses."""

from pathlib import Path

import pytest

from poise.config import ConfigErrors
from poise.config.planning import parse_plan
from poise.first_words import of_plan


def _mistakes(*arguments: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        parse_plan(arguments)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("line", "gpus", "on_a_node"),
    [
        ("", 1, 1),
        ("gpus=4", 4, 4),
        ("gpus=16 trainer.block=8", 16, 8),
        ("trainer.devices=2", 2, 2),
        ("gpus=2 trainer.devices=2", 2, 2),
        ("slurm.nodes=2 slurm.gpus=4", 8, 4),
        ("gpus=8 slurm.nodes=4", 8, 2),
        ("gpus=8 slurm.gpus=8", 8, 8),
    ],
)
def test_how_many_gpus_are_said_in_the_config_or_in_a_word(line: str, gpus: int, on_a_node: int) -> None:
    plan = parse_plan(line.split())
    assert (plan.config.trainer.devices, plan.on_a_node) == (gpus, on_a_node)


def test_a_plan_lies_over_the_file_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("trainer:\n  devices: 2\n  batch_size: 64\nstrategy: deepspeed_zero2\n")
    plan = parse_plan([f"config={tmp_path}/config.yaml", "gpus=4", "gpu=a10", "price=1/2", "of_peak=0.3"])
    assert (plan.config.trainer.devices, plan.config.trainer.batch_size) == (4, 64)
    assert (plan.machines.gpu, plan.machines.price, plan.machines.of_peak) == ("a10", 0.5, 0.3)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("gpu=h10", "gpu=h10: there is no gpu 'h10'; it is one of v100, a10, l40s, a100, h100, h200. Did you mean"),
        ("network=ib400", "network=ib400: there is no network 'ib400'"),
        ("price=-1", "price=-1 has to be 0 or more and at most"),
        ("of_peak=2", "of_peak=2 has to be"),
        ("netwrok=ib_400", "There is nothing called 'netwrok' to plan. Did you mean 'network'?"),
        ("gpus=2 trainer.devices=4", "gpus=2 and trainer.devices=4 differ: give one of them."),
        ("gpus=3", "batch_size=128 over 3 ranks is about 42.7 a rank, not a multiple of block=16."),
        ("recipe=pgd_at,awp strategy=deepspeed_zero3", "awp needs `whole_weights`"),
        ("strategy=deepspeed_zero2 trainer.precision=64-true", "strategy=deepspeed_zero2 trains in float32"),
        ("shape=3,8,8 classes=2", "shape= without examples=: a plan without data needs shape, classes, examples."),
        ("shape=3,0 classes=2 examples=9", "shape=3,0: each number has to be 1 or more"),
        ("shape=1x8x8 classes=2 examples=9", "shape=1x8x8 is not a list, each an integer"),
        ("shape=a,b classes=2 examples=9", "shape=a,b is not a list, each an integer"),
        ("shape= classes=2 examples=9", "shape= is empty"),
        ("shape=10000,10001 classes=2 examples=9", "an input of more than 100,000,000 values is not planned"),
        ("shape=8 classes=1000000000 examples=9", "classes=1000000000 has to be 2 or more and at most"),
        ("shape=8 classes=2 examples=1000000000000000000000", "examples=1000000000000000000000 has to be"),
        ("of_peak=5e-324", "of_peak=5e-324 has to be 0.01 or more"),
        ("price=1e300", "price=1e300 has to be 0 or more and at most"),
        ("trainer.max_epochs=100000000000000000000000", "no more than 1,000,000 are planned"),
        ("groups=4", "groups= without shape= and classes= and examples=: a plan without data needs"),
        ("deepspeed=missing.json strategy=deepspeed_zero2", "deepspeed=missing.json cannot be read"),
        ("deepspeed=missing.json", "deepspeed=missing.json has no effect under strategy=auto"),
        ("gpu=v100 trainer.precision=bf16-mixed", "has no units for bfloat16, and its data sheet no rate"),
        ("data=npz data.path=missing.npz", "data.path=missing.npz: there is no such file."),
        ("data=npz data.path=missing.npz", "A plan needs no data where it is told of them: shape=3,224,224"),
    ],
)
def test_mistakes(line: str, said: str) -> None:
    assert any(said in mistake for mistake in _mistakes(*line.split())), _mistakes(*line.split())


def test_all_mistakes_are_said_together() -> None:
    assert len(_mistakes("gpu=h10", "recipe=tradse", "trainer.max_epoch=3", "gpus=x")) == 4


@pytest.mark.parametrize(
    "line",
    [
        "data=cifar10 data.path=missing",
        "data=imagenet data.path=missing",
        "data=npz data.path=missing.npz shape=3,8,8 classes=2 examples=1000",
        "model.checkpoint=missing.pt run_dir=/proc/none",
    ],
)
def test_what_a_plan_does_not_read_need_not_be_there(line: str) -> None:
    parse_plan(line.split())


def test_deepspeed_need_not_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert parse_plan(["strategy=deepspeed_zero1"]).config.strategy == "deepspeed_zero1"


def test_a_plan_says_what_it_is_of() -> None:
    told_of = ["shape=3,8,8", "classes=4", "examples=2000"]
    told = of_plan(parse_plan(["recipe=mixup", "model.checkpoint=mine.pt", *told_of]))
    assert "Planning mixup on 2,000 examples of 3×8×8 in 4 classes, small_cnn: " in told
    assert told.endswith("; mine.pt is not read")
    assert "on digits, small_cnn: " in of_plan(parse_plan([]))
