"""What a plan says, as a user reads it."""

import re

import pytest

from poise.cli import main
from poise.config.planning import parse_plan
from poise.planning.main import planned, splits_of
from poise.planning.outlook import outlook, strategies_of
from poise.planning.rehearsal import rehearse
from poise.planning.told import told

SMALL = ("shape=1,8,8", "classes=3", "examples=1000", "trainer.batch_size=32", "trainer.block=8")


def test_the_command_tells_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "recipe=pgd_at,awp", "recipe.pgd.steps=2", "gpus=4", "price=2", *SMALL]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("Planning pgd_at,pgd,awp on 1,000 examples of 1×8×8 in 3 classes, small_cnn")
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
    assert max(map(len, said.out.splitlines())) <= 120
    hours, cost = _row(said.out, "> ddp", "GPU hours")[2:4]
    assert float(cost) == pytest.approx(2 * float(hours), abs=0.011)


def test_what_does_not_fit_is_said_with_the_way_out() -> None:
    text = planned(parse_plan(["model=mlp", "model.width=60000", "gpu=a10", "gpus=2", *SMALL]))
    assert "too much" in _memory(text, "> ddp")
    assert "does not fit" in _row(text, "> ddp", "Time of a step")
    assert "It does not fit, and no trainer.accumulate makes it: a smaller model" in _flowing(text)
    assert "The run, modelled" not in text


def test_the_micro_batches_that_are_advised_fit() -> None:
    large = ["shape=3,64,64", "classes=3", "examples=20000", "trainer.batch_size=8192", "model.width=128", "gpu=a10"]
    text = _flowing(planned(parse_plan(large)))
    (parts,) = re.findall(r"trainer\.accumulate=(\d+) would", text)
    assert int(parts) > 2
    assert "too much" not in planned(parse_plan([*large, f"trainer.accumulate={parts}"]))
    assert "too much" in planned(parse_plan([*large, f"trainer.accumulate={int(parts) // 4}"]))


def test_a_strategy_that_fits_is_advised_where_no_part_is_small_enough() -> None:
    text = planned(parse_plan(["model=mlp", "model.width=36000", "gpu=a10", "gpus=4", *SMALL]))
    assert "too much" in _memory(text, "> ddp")
    assert re.search(r"no trainer\.accumulate makes it: (strategy=deepspeed_zero\d( and )?)+ would", _flowing(text))


def test_no_line_is_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = parse_plan(
        ["recipe=pgd_at,awp", "recipe.pgd.steps=1", "gpus=4", "price=2", "strategy=deepspeed_zero2_offload", *SMALL]
    )
    rehearsal = rehearse(plan.config, splits_of(plan))
    outlooks = [outlook(plan, rehearsal, strategy) for strategy in strategies_of(plan)]
    for columns in (80, 100, 120):
        monkeypatch.setenv("COLUMNS", str(columns))
        text = told(plan, rehearsal, outlooks)
        assert max(map(len, text.splitlines())) <= columns
        assert "p parameters, g gradients" in text


def test_many_gpus_are_held_against_one() -> None:
    text = planned(parse_plan(["gpus=4", "network=ethernet_10", *SMALL]))
    assert "scaling" not in text
    *_, faster, efficiency = _row(text, "> ddp", "The run, modelled")
    assert float(faster.split()[0]) == pytest.approx(4 * int(efficiency.split()[0]) / 100, abs=0.06)
    assert "is limited by launches" in text
    assert "fewer GPUs, or a larger trainer.batch_size" in _flowing(text)
    assert "One node, on which network= plays no part" in text
    assert {_row(text, name, "Time of a step")[3] for name in ("> ddp", "  deepspeed_zero2")} != {""}


def test_one_gpu_sends_nothing_and_costs_nothing_unless_told() -> None:
    text = planned(parse_plan(list(SMALL)))
    assert "network" not in text.partition("Memory")[0]
    assert "cost" not in text
    assert "deepspeed" not in text
    assert "\n> one process " in text
    assert "efficiency" not in text


def test_the_rates_are_those_that_a_gpu_has() -> None:
    hopper, volta = (planned(parse_plan([f"gpu={gpu}", *SMALL])) for gpu in ("h100", "v100"))
    assert "convolutions in TF32 494 TFLOP/s, matrix products in float32 67 TFLOP/s" in _flowing(hopper)
    assert "TF32" not in volta


def test_the_strategy_asked_for_is_marked_whatever_it_is() -> None:
    text = planned(parse_plan(["strategy=deepspeed_zero2_offload", "gpus=2", *SMALL]))
    assert "\n> deepspeed_zero2_offload " in text
    assert re.search(r"deepspeed_zero2_offload holds [\d.]+ MB a GPU in the host's memory", text)
    assert _row(text, "> deepspeed_zero2_offload", "Time of a step")[-1] == "not modelled"
    assert "> deepspeed" not in text.partition("The run, modelled")[2]


def _row(text: str, strategy: str, heading: str) -> list[str]:
    table = text[text.index(heading) :]
    line = next(line for line in table.splitlines() if line.startswith(strategy))
    return re.split(r" {2,}", line)


def _flowing(text: str) -> str:
    """Without the ends of lines."""
    return " ".join(text.split())


def _memory(text: str, strategy: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(strategy))
