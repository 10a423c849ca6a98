"""The benchmarks run; what they measure is no test, for it depends on the machine."""

import subprocess
import sys
from pathlib import Path


def table(program: str, *options: str) -> list[list[str]]:
    """The lines of the tables that a benchmark prints."""
    command = [sys.executable, str(Path(__file__).with_name(program)), "--turns=1", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("|")]


def test_the_table_of_steps_is_printed() -> None:
    rows = table("steps.py")[2:]
    assert [row[0].split(" ")[0] for row in rows] == ["plain"] * 3 + ["TRADES-10"] * 2
    assert all(float(row[2]) > 0 for row in rows)


def test_the_table_of_commands_is_printed() -> None:
    program = Path(__file__).with_name("commands.py")
    done = subprocess.run(
        [sys.executable, str(program), "--turns=1"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("|")][2:]
    assert [row[0].split(" ")[1] for row in rows][:3] == ["--version`", "--help`", "help"]
    assert all(float(row[1]) > 0 for row in rows)


def test_the_table_of_tracking_is_printed() -> None:
    rows = table("tracking.py")
    assert float(rows[2][2]) > 0
    assert [row[0] for row in rows[5:]] == ["10", "1"]
    assert all(float(row[1]) >= 0 for row in rows[5:])


def test_the_table_of_loading_is_printed() -> None:
    rows = table("loading.py", "--pictures=400")[2:]
    assert [row[1] for row in rows] == [
        "torchvision, 2 workers",
        "a loop on tensors",
        "torchvision, 0 workers",
        "a loop on tensors",
    ]
    assert all(float(row[2]) > 0 for row in rows)


def test_the_table_of_resnet_steps_is_printed() -> None:
    rows = table("residual.py", "--side=8", "--batch-size=2", "--recipes=mixup")[2:]
    assert [row[0].split(" ")[0] for row in rows] == ["TRADES-10", "TRADES-10", "plain", "mixup"]
    assert all(float(row[2]) > 0 for row in rows)


def test_the_table_of_adversarial_recipes_is_printed() -> None:
    rows = table("adversarial.py", "--recipes", "fgsm_rs", "mart")[2:]
    assert [(row[0].split(" ")[0], row[1]) for row in rows] == [
        ("fgsm_rs,pgd_at", "passes 2, 1, 1"),
        ("mart,pgd", "passes 12, 10, 2"),
    ]
    assert all(float(row[2]) > 0 for row in rows)


def test_the_table_of_scaling_is_printed() -> None:
    rows = table("scaling.py", "--jobs=smallest")
    ratios = [row for row in rows[2:] if len(row) == 7]
    assert [row[1] for row in ratios] == ["by hand, clock", "by hand, processor"] * 3
    assert all(float(row[2]) > 0 for row in ratios)
    assert [row[1] for row in rows[-2:]] == ["strong", "weak"]
    assert all(float(row[2]) > 0 and float(row[3]) > 0 for row in rows[-2:])


def test_the_table_of_streamed_updates_is_printed() -> None:
    (row,) = table("streamed_ece.py")[2:]
    assert float(row[1]) > 0
