"""A sweep as one array of jobs: what one run loses is its own, and can be had again."""

import json
import sqlite3
from pathlib import Path

from cluster.slurm import SUBMIT, Cluster

SMALL = (
    *("model=mlp", "trainer.max_steps=2", "trainer.accelerator=cpu", "trainer.progress=false", "evaluation=clean"),
    *("calibration=none", "slurm.cpus=1", "run_dir=all"),
)
FLAKY = """
import os

from poise.recipe import Recipe


class Flaky(Recipe):
    def on_epoch_start(self, step):
        if not os.path.exists("mended"):
            raise RuntimeError("not mended yet")
"""
RUNS = ["recipe=plain", "recipe=flaky-Flaky", "recipe=mixup"]

STAND_IN = """#!/bin/bash
run=${@: -1}
run=$(dirname "${run#config=}")
echo started >>"$run/starts"
if [ "$SLURM_ARRAY_TASK_ID" = 2 ] && [ -z "${SLURM_RESTART_COUNT:-}" ]; then
    touch stopped
    exit
fi
until [ -e stopped ]; do sleep 0.2; done
sleep 3
echo '{}' >"$run/report.json"
"""  # in place of Python: the last run stops to go on later, while the others are still at it


def tracked(folder: Path) -> tuple[dict[str, str], dict[str, str], set[str]]:
    """The status of each run by name, and its axis' value; the names of those that the sweep's stands above."""
    with sqlite3.connect(folder / "mlflow.db") as database:
        status = dict(database.execute("select name, status from runs"))
        tags = "select name, value from runs natural join (select run_uuid, key, value from tags where key = '{}')"
        recipes = dict(database.execute(tags.format("recipe")))
        (above,) = database.execute("select run_uuid from runs where name = 'all'").fetchone()
        parents = dict(database.execute(tags.format("mlflow.parentRunId")))
    database.close()
    return status, recipes, {name for name, parent in parents.items() if parent == above}


def test_a_run_that_fails_loses_nothing_of_the_others_and_is_submitted_again_alone(
    cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "flaky.py").write_text(FLAKY)
    recipes = ("recipe=plain", "recipe=flaky:Flaky", "recipe=mixup")
    number = cluster.submit("--sweep", *recipes, *SMALL, cwd=tmp_path)
    above = tracked(tmp_path)[0]["all"]  # whoever submits makes the database, and the run above all
    assert above in ("RUNNING", "FAILED")  # the second where the task has failed by now
    assert [cluster.ended(f"{number}_{task}") for task in range(3)] == ["COMPLETED", "FAILED", "COMPLETED"]
    status, values, below = tracked(tmp_path)
    assert status == {"all": "FAILED", RUNS[0]: "FINISHED", RUNS[1]: "FAILED", RUNS[2]: "FINISHED"}
    assert values == dict(zip(RUNS, ["plain", "flaky:Flaky", "mixup"], strict=True))
    assert below == set(RUNS)
    reports = {name: (tmp_path / "all" / name / "report.json").read_bytes() for name in (RUNS[0], RUNS[2])}

    (tmp_path / "mended").touch()
    said = cluster.run(str(SUBMIT), "--resubmit-failed", "run_dir=all", cwd=tmp_path)
    again = said.partition("Job:")[2].split(",")[0].strip()
    assert cluster.ended(f"{again}_1") == "COMPLETED"
    status, _, below = tracked(tmp_path)
    assert status == dict.fromkeys(["all", *RUNS], "FINISHED")
    assert below == set(RUNS)
    assert json.loads((tmp_path / "all" / RUNS[1] / "report.json").read_text())
    assert reports == {name: (tmp_path / "all" / name / "report.json").read_bytes() for name in reports}
    logs = sorted(path.name for path in (tmp_path / "all").glob("slurm-*.log"))
    assert logs == sorted([*(f"slurm-{number}_{task}.log" for task in range(3)), f"slurm-{again}_1.log"])


def test_a_run_that_goes_back_into_the_queue_does_so_alone(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "python").write_text(STAND_IN)
    (tmp_path / "python").chmod(0o755)
    words = ("seed=0", "seed=1", "seed=2", "tracking=none", f"slurm.python={tmp_path}/python")
    number = cluster.submit("--sweep", *words, *SMALL, cwd=tmp_path)
    assert [cluster.ended(f"{number}_{task}") for task in range(3)] == ["COMPLETED"] * 3
    starts = [(tmp_path / "all" / f"seed={seed}" / "starts").read_text().count("started") for seed in range(3)]
    assert starts == [1, 1, 2]
