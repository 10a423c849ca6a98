from pathlib import Path

import pytest

from poise.config import CHECKS_OF_A_JOB, ConfigErrors, parse
from poise.config.axes import axes_of, parse_one, parse_sweep


def mistakes(line: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        parse_sweep(line.split(), CHECKS_OF_A_JOB)
    return list(caught.value.mistakes)


def test_a_path_given_several_times_is_an_axis_and_the_last_one_varies_fastest() -> None:
    line = "recipe=trades trainer.max_steps=2 recipe.name=trades,awp seed=0 seed=1 seed=2"
    found = parse_sweep(line.split())
    assert [tuple(run.values.values()) for run in found] == [
        (recipe, seed) for recipe in ("trades", "trades,awp") for seed in ("0", "1", "2")
    ]
    assert [list(run.config.recipe) for run in found[::3]] == [["trades", "pgd"], ["trades", "pgd", "awp"]]
    assert {run.config.trainer.max_steps for run in found} == {2}


def test_each_run_is_what_the_same_words_make_alone() -> None:
    words = ["recipe=trades", "optimizer=adamw", "threat.eps=4/255"]
    found = parse_sweep([*words, "recipe.trades.beta=1", "recipe.trades.beta=6"])
    assert [run.config for run in found] == [parse([*words, f"recipe.trades.beta={beta}"]) for beta in (1, 6)]


def test_words_that_give_nothing_are_no_axis() -> None:
    axes, common = axes_of(["seed=0", "twice", "seed=1", "twice", "model=mlp"])
    assert axes == {"seed": ["0", "1"]}
    assert common == ["twice", "twice", "model=mlp"]


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        ("seed=0", ["--sweep needs a path that is given several times, such as seed=0 seed=1 seed=2."]),
        (
            "seed=0 seed=0 model=mlp model=mlp seed=0",
            ["seed=0 is given twice: leave one out.", "model=mlp is given twice: leave one out."],
        ),
        ("seed=1 seed=01 model=mlp model=small_cnn", ["seed=1 and seed=01 make the same run: leave one out."]),
        (
            "slurm.time=3 slurm.time=4",
            ["slurm.time=3 and slurm.time=4: the jobs of a sweep are alike, and tracked in one place. Give one value."],
        ),
        (
            "trainer.devices=1 trainer.devices=2 tracking=none tracking=mlflow",
            [
                "trainer.devices=1 and trainer.devices=2: the jobs of a sweep are alike, and tracked in one place. "
                "Give one value.",
                "tracking=none and tracking=mlflow: the jobs of a sweep are alike, and tracked in one place. "
                "Give one value.",
            ],
        ),
        ("seed=-1 seed=2", ["seed=-1 has to be 0 or more."]),
        (
            "model.checkpoint=http://me:word@there model.checkpoint=b seed=0 seed=1",
            [
                "model.checkpoint=http://***@there: model.checkpoint holds a password in an address, which would be "
                "written to config.yaml: keep it in a file of its own.",
                "model.checkpoint=http://***@there: there is no such file. There is no http:.",
                "model.checkpoint=b: there is no such file.",
            ],
        ),
        (
            "recipe=trades recipe=mixup seed=0 seed=1 recipe.trades.beta=3 data=dgits",
            [
                "data=dgits: there is no data called 'dgits'. Did you mean 'digits'? (`poise list` shows all.)",
                "recipe=mixup: recipe.trades.beta: 'trades' is not in recipe=mixup. Add it: recipe=mixup,trades",
            ],
        ),
        (
            "trainer.batch_size=64 trainer.batch_size=100 trainer.block=16 trainer.block=64 seed=0 seed=1",
            [
                "trainer.batch_size=100 trainer.block=16: batch_size=100 over 1 rank is 100 a rank, not a multiple of "
                "block=16. Fits: trainer.batch_size=112; or trainer.block=4 (other draws: another run)",
                "trainer.batch_size=100 trainer.block=64: batch_size=100 over 1 rank is 100 a rank, not a multiple of "
                "block=64. Fits: trainer.batch_size=128; or trainer.block=4 (other draws: another run)",
            ],
        ),
    ],
)
def test_mistakes_of_all_runs_are_said_together_each_once(line: str, lines: list[str]) -> None:
    assert mistakes(line) == lines


def test_a_sweep_that_no_array_holds_is_refused_before_it_is_read() -> None:
    seeds = " ".join(f"seed={seed}" for seed in range(200))
    line = f"{seeds} optimizer.lr=1 optimizer.lr=2 optimizer.lr=3 optimizer.lr=4 optimizer.lr=5 optimizer.lr=6"
    assert mistakes(line) == ["200 × 6 are 1200 runs, and a sweep has at most 1000: submit it in parts."]


def test_one_axis_that_no_array_holds_is_counted_once() -> None:
    line = " ".join(f"seed={seed}" for seed in range(1001))
    assert mistakes(line) == ["These are 1001 runs, and a sweep has at most 1000: submit it in parts."]


@pytest.mark.parametrize(
    ("path", "values"),
    [("resume", ("auto", "never")), ("trainer.progress", ("true", "false")), ("tracking.every", ("1", "10"))],
)
def test_what_makes_no_run_another_is_no_axis(path: str, values: tuple[str, str]) -> None:
    assert mistakes(" ".join(f"{path}={value}" for value in values)) == [
        f"{path} is given several times, and is no axis: no run would be another. Give one value."
    ]


def test_files_that_make_the_same_run_are_no_axis(tmp_path: Path) -> None:
    for name, text in (("a", "seed: 1"), ("b", "seed: 1\nresume: never\ntrainer: {progress: false}")):
        (tmp_path / name).write_text(text)
    both = [f"config={tmp_path / name}" for name in ("a", "b")]
    assert mistakes(" ".join(both)) == [f"{both[0]} and {both[1]} make the same run: leave one out."]


def test_who_wants_one_run_is_told_how_values_make_several() -> None:
    words = ["recipe=trades", "seed=1", "recipe.trades.beta=3"]
    assert parse_one(words, CHECKS_OF_A_JOB) == parse(words)
    with pytest.raises(ConfigErrors) as caught:
        parse_one(["seed=0", "seed=1", "seed=2", "recipe=trades", "recipe.name=mixup", "data=dgits"], CHECKS_OF_A_JOB)
    assert list(caught.value.mistakes) == [
        "seed is given 3 times (0, 1, 2): give one value, or submit a run for each with --sweep.",
        "recipe is given 2 times (trades, mixup): give one value, or submit a run for each with --sweep.",
        "data=dgits: there is no data called 'dgits'. Did you mean 'digits'? (`poise list` shows all.)",
    ]
