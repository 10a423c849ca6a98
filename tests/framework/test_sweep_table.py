from pathlib import Path

from poise.sweep import Sweep, named
from poise.sweep_table import table

RUNS = [{"recipe": recipe, "seed": seed} for recipe in ("trades", "trades,awp") for seed in ("0", "1")]


def swept(folder: Path, runs: list[dict[str, str]], accuracies: list[float | None]) -> Sweep:
    """Runs of which those with an accuracy have finished."""
    sweep = Sweep(folder, named(runs))
    for name, accuracy in zip(sweep.runs, accuracies, strict=True):
        sweep.directory(name).path.mkdir()
        if accuracy is not None:
            metrics = {"val/accuracy": 1.0, "test/accuracy": accuracy, "test/nll": 2.0}
            metrics |= {"test/robust_accuracy/pgd-20": accuracy / 2, "test/accuracy/class/3": 0.3}
            sweep.directory(name).write_report(metrics | {"test/temperature_scaling/accuracy": 0.1})
    return sweep


def lines(sweep: Sweep, states: list[str]) -> list[list[str]]:
    """The cells of a table's lines, which no cell of several words makes wrong: two blanks part them."""
    text = table(sweep, dict(zip(sweep.runs, states, strict=False)))
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


def test_before_anything_is_submitted_the_runs_are_listed(tmp_path: Path) -> None:
    sweep = swept(tmp_path, RUNS[:2], [None, None])
    assert lines(sweep, []) == [["n", "run"], ["0", "recipe=trades,seed=0"], ["1", "recipe=trades,seed=1"]]


def test_runs_that_have_finished_show_what_they_came_to_and_their_spread_over_seeds(tmp_path: Path) -> None:
    sweep = swept(tmp_path, RUNS, [0.8, 0.9, 0.7, None])
    assert lines(sweep, ["finished", "finished", "finished", "failed"]) == [
        ["n", "run", "state", "accuracy", "robust_accuracy/pgd-20"],
        ["0", "recipe=trades,seed=0", "finished", "80.00 %", "40.00 %"],
        ["1", "recipe=trades,seed=1", "finished", "90.00 %", "45.00 %"],
        ["2", "recipe=trades-awp,seed=0", "finished", "70.00 %", "35.00 %"],
        ["3", "recipe=trades-awp,seed=1", "failed"],
        [],
        ["recipe", "seeds", "accuracy", "robust_accuracy/pgd-20"],
        ["trades", "2", "85.00 ± 7.07 %", "42.50 ± 3.54 %"],  # a sample's: 0.1 / √2
        ["trades,awp", "1", "70.00 %", "35.00 %"],
    ]


def test_without_seeds_there_is_no_spread(tmp_path: Path) -> None:
    sweep = swept(tmp_path, [{"model": "mlp"}, {"model": "small_cnn"}], [0.5, 0.6])
    assert [line[0] for line in lines(sweep, ["finished", "finished"])] == ["n", "0", "1"]


def test_accuracies_that_are_not_finite_are_said_to_be_so(tmp_path: Path) -> None:
    sweep = swept(tmp_path, RUNS[:2], [0.5, float("nan")])
    found = lines(sweep, ["finished", "finished"])
    assert found[2][3:] == ["not finite", "not finite"]
    assert found[-1] == ["trades", "2", "not finite", "not finite"]
