"""The run that stands for a sweep, in a database and on disk as they are."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracked_runs import rows

from poise.config.axes import parse_sweep
from poise.sweep import Sweep, named
from poise.tracking.parent import Child, opened, values_as_tags
from poise.tracking.tracker import quiet

NAMES = ["recipe=plain,seed=0", "recipe=plain,seed=1", "recipe=mixup,seed=0", "recipe=mixup,seed=1"]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """MLflow's own warnings are nobody's mistake here."""
    with quiet():
        yield


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An address of a database that nobody has made yet."""
    return f"sqlite:///{tmp_path_factory.mktemp('tracked')}/mlflow.db"


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    found = parse_sweep(["recipe=plain", "recipe=mixup", "seed=0", "seed=1"])
    sweep = Sweep(tmp_path / "both", named([run.values for run in found]))
    for name in sweep.runs:
        sweep.directory(name).path.mkdir(parents=True)
    return sweep


def child(sweep: Sweep, uri: str, name: str) -> Child:
    return Child(sweep, uri, "swept", f"key of {sweep.key} {name}", None, name, 1)


def status(child: Child) -> str:
    return str(child.client.get_run(child.parent.run_id).info.status)


def test_the_database_and_the_run_are_made_by_whoever_comes_first_once(sweep: Sweep, uri: str) -> None:
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.append(opened(sweep, uri, "swept").run_id)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 4
    assert len(set(ids)) == 1


def test_it_tells_the_axes_and_its_children_stand_below_it(sweep: Sweep, uri: str) -> None:
    parent = opened(sweep, uri, "swept")
    told = parent.client.get_run(parent.run_id).data
    assert told.params == {"recipe": "plain  mixup", "seed": "0  1"}
    assert {name: told.tags[name] for name in ("sweep", "runs")} == {"sweep": "2 recipe × 2 seed", "runs": "4"}
    assert all(name in told.tags["mlflow.note.content"] for name in NAMES)
    children = [child(sweep, uri, name) for name in sweep.runs]
    database = Path(uri.removeprefix("sqlite:///"))
    below = rows(database, f"select run_uuid from tags where key = 'mlflow.parentRunId' and value = '{parent.run_id}'")
    assert {run_id for (run_id,) in below} == {one.run_id for one in children}
    assert len({one.run_id for one in children}) == 4


def test_it_ends_as_its_children_do(sweep: Sweep, uri: str) -> None:
    *others, last = [child(sweep, uri, name) for name in sweep.runs]
    others[0].mark("RUNNING", 2)
    assert status(last) == "RUNNING"
    for one, name in zip(others, sweep.runs, strict=False):
        sweep.directory(name).write_report({})
        one.mark("FINISHED", 3)
        assert status(last) == "RUNNING"
    last.mark("KILLED", 4)
    assert status(last) == "RUNNING"
    last.mark("FAILED", 5)
    assert status(last) == "FAILED"
    last.mark("RUNNING", 6)
    sweep.directory(NAMES[-1]).write_report({})
    last.mark("FINISHED", 7)
    assert status(last) == "FINISHED"


def test_what_a_run_has_of_the_axes_are_tags_that_mlflow_takes(sweep: Sweep) -> None:
    assert values_as_tags({"recipe.a.beta": "6", "tables.ä;b": "x" * 9000}) == {
        "recipe.a.beta": "6",
        "tables.__b": "x" * 8000,
    }
