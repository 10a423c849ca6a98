import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config_strategies import TEXTS
from poise.config.axes import axes_of
from poise.errors import UserError
from poise.sweep import Sweep, around, is_sweep, named, read

PATHS = st.sampled_from(["recipe", "seed", "recipe.trades.beta", "calibration.beta", "config", "tables.ä"])


def runs(line: str) -> list[dict[str, str]]:
    """Of one axis, or of values that are named together."""
    axes, _ = axes_of(line.split())
    return [dict(zip(axes, values, strict=True)) for values in zip(*axes.values(), strict=True)]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("recipe=trades recipe=trades,awp seed=0 seed=1", ["recipe=trades,seed=0", "recipe=trades-awp,seed=1"]),
        ("recipe.trades.beta=1 recipe.trades.beta=6", ["beta=1", "beta=6"]),
        (
            "recipe.a.steps=1 recipe.a.steps=2 recipe.b.steps=3 recipe.b.steps=4",
            ["recipe.a.steps=1,recipe.b.steps=3", "recipe.a.steps=2,recipe.b.steps=4"],
        ),
        ("threat.eps=4/255 threat.eps=4,255", ["eps=4-255", "eps=4-255-2"]),
        ("model=MLP model=mlp", ["model=MLP", "model=mlp-2"]),
    ],
)
def test_names_say_what_differs(line: str, names: list[str]) -> None:
    assert list(named(runs(line))) == names


@given(st.lists(st.lists(TEXTS, min_size=2, max_size=2, unique=True), min_size=1, max_size=20), st.tuples(PATHS, PATHS))
def test_every_name_is_one_word_of_its_own(values: list[list[str]], paths: tuple[str, str]) -> None:
    asked = [dict(zip(paths, some, strict=True)) for some in values]
    names = list(named(asked))
    assert len({name.lower() for name in names}) == len(asked)
    assert all(re.fullmatch(r"[A-Za-z0-9_.=,+-]+", name) and len(name) <= 130 for name in names)
    assert all(name not in (".", "..") and not name.startswith("-") for name in names)
    assert named(asked) == dict(zip(names, asked, strict=True))


def test_a_sweep_comes_back_as_it_was_written(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, named(runs("seed=0 seed=1 data.path=ä data.path=b")))
    assert not is_sweep(tmp_path)
    sweep.write()
    assert read(tmp_path) == sweep
    assert sweep.axes == {"seed": ["0", "1"], "data.path": ["ä", "b"]}


def test_a_run_knows_its_sweep_by_where_it_lies(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "all", named(runs("seed=0 seed=1")))
    (sweep.path / "seed=0").mkdir(parents=True)
    sweep.write()
    assert around(sweep.path / "seed=0") == sweep
    assert around(sweep.path / "other") is None
    assert around(tmp_path) is None
    moved = sweep.path.rename(tmp_path / "moved")
    found = around(moved / "seed=0")
    assert found is not None
    assert (found.path, found.key) == (moved, sweep.key)


def test_a_sweep_is_finished_when_all_its_runs_are(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, named(runs("seed=0 seed=1")))
    for name in sweep.runs:
        assert not sweep.finished
        sweep.directory(name).path.mkdir()
        sweep.directory(name).write_report({})
    assert sweep.finished


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "is no sweep's: it holds no sweep.json"),
        ("{", "is damaged: this is no JSON; bring it back, or delete it and submit each run by itself: poise submit"),
        ('{"a": 1}', "is damaged: runs is missing; bring it back"),
        ("[" * 100_000, "is damaged: this is no JSON"),
    ],
)
def test_a_directory_that_is_no_sweeps_is_named(text: str | None, said: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(UserError, match=said):
        read(tmp_path)
    with pytest.raises(UserError, match="is not there"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"runs": None}, "runs is not as it was written"),
        ({"runs": []}, "runs is not as it was written"),
        ({"runs": {}}, "it has no runs"),
        ({"runs": {"../there": {"seed": "0"}}}, "../there' is no name of a run"),
        ({"runs": {"it's": {"seed": "0"}}}, "is no name of a run"),
        ({"runs": {"..": {"seed": "0"}}}, "is no name of a run"),
        ({"runs": {"a": {}}}, "'a' has no values of the axes"),
        ({"runs": {"a": {"seed": 0}}}, "'a' has no values of the axes"),
        ({"runs": {"a": 5}}, "'a' has no values of the axes"),
        ({"runs": {"a": {"seed": "0"}, "b": {"model": "mlp"}}}, "'b' has other axes than the first run"),
        ({"working": None}, "working is not as it was written"),
        ({"started": "now"}, "started is not as it was written"),
        ({"more": 1}, "'more' has no meaning there"),
    ],
)
def test_a_sweep_that_says_something_else_is_named(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    Sweep(tmp_path, named(runs("seed=0 seed=1"))).write()
    file = tmp_path / "sweep.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(UserError) as caught:
        read(tmp_path)
    assert str(caught.value).startswith(f"{file} is damaged: ")
    assert said in str(caught.value)
