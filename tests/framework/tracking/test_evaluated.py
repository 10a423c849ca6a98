"""A run that is evaluated again by its id alone: found on the tracking server, and tracked below it."""

import json
import subprocess
import sys
from pathlib import Path

from tracked_runs import environment, rows, state, train


def test_an_evaluation_by_id_is_a_child_of_its_run_with_the_same_numbers(tmp_path: Path) -> None:
    train(tmp_path, "run", trainer__max_epochs=1)
    run_id = state(tmp_path / "run").run_id
    words = [sys.executable, "-m", "poise", "evaluate", f"run=runs:/{run_id}", "evaluation=clean", "run_dir=again"]
    env = environment(XDG_CACHE_HOME=str(tmp_path / "cache"))
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, after = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("run", "again"))
    shared = {name for name in after if name.startswith("test/")}
    assert len(shared) > 10
    assert all(abs(after[name] - before[name]) < 1e-6 for name in shared)
    database, own = tmp_path / "mlflow.db", state(tmp_path / "again").run_id
    (parent,) = rows(database, f"select value from tags where run_uuid = '{own}' and key = 'mlflow.parentRunId'")
    assert parent == (run_id,)
    stored = dict(rows(database, f"select key, value from latest_metrics where run_uuid = '{own}'"))
    assert stored["test/nll"] == after["test/nll"]
