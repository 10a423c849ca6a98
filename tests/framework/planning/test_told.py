"""What a plan says, as a user reads it."""

import re

import pytest

from poise.cli import main
from poise.config.planning import parse_plan
from poise.planning.main import planned

SMALL = ("shape=1,8,8", "classes=3", "examples=1000", "trainer.batch_size=32", "trainer.block=8")


def test_the_command_tells_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "recipe=pgd_at,awp", "recipe.pgd.steps=2", "gpus=4", "price=2", *SMALL]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("Planning pgd_at,pgd,awp on digits, small_cnn")
    steps = 20 * (1000 // 32)
    for text in (
        "A step of 32 examples, 8 a GPU\n",
        "4 forward, 2 backward to the inputs, 2 backward to the weights\n",
        f"{steps} steps in 20 epochs",
        "\n> ddp ",
        "\n  deepspeed_zero2 ",
        "deepspeed_zero3 is refused: awp needs `whole_weights`",
        "modelled, not measured",
        "Taken for granted\n",
    ):
        assert text in said.out
    assert max(map(len, said.out.splitlines())) < 140
    hours, cost = _row(said.out, "> ddp", "GPU hours")[-3:-1]
    assert float(cost) == pytest.approx(2 * float(hours), abs=0.011)


def test_what_does_not_fit_is_said_with_the_way_out() -> None:
    text = planned(parse_plan(["model=mlp", "model.width=60000", "gpu=a10", "gpus=2", *SMALL]))
    assert "does not fit" in _memory(text, "> ddp")
    assert "It does not fit: set trainer.accumulate=2" in text


def test_one_gpu_sends_nothing_and_costs_nothing_unless_told() -> None:
    text = planned(parse_plan(list(SMALL)))
    assert "network" not in text.partition("Memory")[0]
    assert "cost" not in text
    assert "deepspeed" not in text


def test_the_strategy_asked_for_is_marked_whatever_it_is() -> None:
    text = planned(parse_plan(["strategy=deepspeed_zero2_offload", "gpus=2", *SMALL]))
    assert "\n> deepspeed_zero2_offload " in text
    assert re.search(r"total +host\n", text)


def _row(text: str, strategy: str, heading: str) -> list[str]:
    table = text[text.index(heading) :]
    line = next(line for line in table.splitlines() if line.startswith(strategy))
    return re.split(r" {2,}", line)


def _memory(text: str, strategy: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(strategy))
