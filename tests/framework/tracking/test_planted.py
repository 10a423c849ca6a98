"""Secrets planted wherever a run may come across them, and looked for in every file that it leaves."""

import subprocess
from pathlib import Path

from tracked_runs import environment, kill, wait_for, worker

PLANTED = {
    "remote": "remote1secret",
    "shape": "ghp_" + "a1B2" * 9,
    "variable": "variable1secret",
    "server": "server1secret",
    "password": "password1secret",
}

SAID = f"https://x:{PLANTED['password']}@host token {PLANTED['shape']}, "
SAID += f"{PLANTED['variable']} and http://me:{PLANTED['server']}@127.0.0.1:9"
LEFT = ("report.html", "figures/reliability.svg", "predictor/predictor.json")  # in the run's own directory


def found(folder: Path) -> list[tuple[str, str]]:
    files = [path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts]
    own = [folder / "run" / name for name in LEFT]
    texts = {path: path.read_bytes() for path in files if path.suffix != ".err" and path not in own}
    return [
        (str(path), name) for path, text in texts.items() for name, secret in PLANTED.items() if secret.encode() in text
    ]


def test_no_planted_secret_reaches_a_file_or_a_database(tmp_path: Path) -> None:
    remote = f"https://me:{PLANTED['remote']}@example.org/poise.git?token={PLANTED['shape']}"
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"], ["remote", "add", "origin", remote]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True)
    secrets = {"MY_TOKEN": PLANTED["variable"], "DB_PASSWORD": PLANTED["password"], "SAID": SAID}
    refuses = environment(MLFLOW_TRACKING_URI=f"http://me:{PLANTED['server']}@127.0.0.1:9", **secrets)
    process = worker(tmp_path, 1, 10_000, pause=0.01, env=refuses)
    wait_for(lambda: "is tried again" in (tmp_path / "run.err").read_text())
    kill(process)
    assert "Tracking at http://***@127.0.0.1:9 fails" in (tmp_path / "run.err").read_text()
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "OSError: https://***@host token ***, *** and http://***@127.0.0.1:9" in log
    assert log.count("Tracking at http://***@127.0.0.1:9 fails") == 1
    assert '"http://***@127.0.0.1:9"' in (tmp_path / "run" / "tracking" / "state.json").read_text()
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert worker(tmp_path, 1, 10, env=environment(MLFLOW_TRACKING_URI=uri, **secrets)).wait(60) == 0
    assert b"https://***@example.org/poise.git" in (tmp_path / "mlflow.db").read_bytes()
    for name in ("git.json", *LEFT):
        assert len(list((tmp_path / "mlruns").rglob(name))) == 1
    (weights,) = (tmp_path / "mlruns").rglob("model.safetensors")
    assert weights.read_bytes() == b"weights"
    assert found(tmp_path) == []
