"""What tests of the tracker share: small tracked runs, and what MLflow has stored of them."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from poise.tracking.spool import State, read_state

WORKER = Path(__file__).with_name("worker.py")

QUICK = {
    "model": "mlp",
    "evaluation": "clean",
    "trainer.max_epochs": 2,
    "trainer.batch_size": 128,
    "trainer.progress": "false",
    "tracking.every": 1,
}


def command(run_dir: Path | str, **settings: Any) -> list[str]:
    """A command line that trains for a second or two; settings with `__` for dots."""
    values = QUICK | {"run_dir": run_dir} | {name.replace("__", "."): value for name, value in settings.items()}
    return [sys.executable, "-m", "poise", "train", *(f"{name}={value}" for name, value in values.items())]


def environment(**more: str) -> dict[str, str]:
    """That of a process that checks no shapes, which takes seconds."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = os.pathsep.join(path for path in paths if not path.rstrip("/").endswith("shapes"))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")}
    return clean | {"PYTHONPATH": kept, "OMP_NUM_THREADS": "1"} | more


def train(cwd: Path, run_dir: Path | str, env: dict[str, str] | None = None, **settings: Any) -> str:
    """Run the command; returns what it printed."""
    done = subprocess.run(
        command(run_dir, **settings),
        cwd=cwd,
        env=env or environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr + done.stdout


def wait_for(what: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def start(words: list[str], cwd: Path, name: str = "run", env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    with (cwd / f"{name}.err").open("wb") as said:
        return subprocess.Popen(words, cwd=cwd, env=env or environment(), stdout=subprocess.DEVNULL, stderr=said)


def worker(
    cwd: Path,
    first: int,
    last: int,
    *settings: str,
    pause: float = 0.0,
    name: str = "run",
    env: dict[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """A run without its training: steps `first` to `last`, `pause` seconds apart."""
    return start([sys.executable, str(WORKER), name, str(first), str(last), str(pause), *settings], cwd, name, env)


def kill(process: subprocess.Popen[bytes]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def state(run_dir: Path) -> State:
    return read_state(run_dir / "tracking")


def rows(database: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(database) as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found


def stored_twice(database: Path) -> list[Any]:
    """The (run, metric, step) that have more than one row."""
    found = Counter(rows(database, "select run_uuid, key, step from metrics"))
    return [key for key, count in found.items() if count > 1]


def statuses(database: Path) -> list[str]:
    return [status for (status,) in rows(database, "select status from runs")]


def steps(database: Path, key: str) -> list[int]:
    return [step for (step,) in rows(database, f"select step from metrics where key = '{key}' order by step")]


def is_whole(database: Path, count: int) -> bool:
    """One run, finished, with each step once."""
    assert statuses(database) == ["FINISHED"]
    assert stored_twice(database) == []
    assert steps(database, "train/loss") == list(range(1, count + 1))
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(folder: Path, port: int) -> Iterator[None]:
    """MLflow's own, with its database and artifacts in a folder."""
    store = [f"sqlite:///{folder / 'server.db'}", "--artifacts-destination", str(folder / "files")]
    words = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--serve-artifacts"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *words, "--backend-store-uri", *store],
        cwd=folder,
        env=environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false", MLFLOW_DISABLE_TELEMETRY="true"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: listens(port))
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def refusing(path: str, code: int) -> Iterator[str]:
    """The address of a tracking server that has any experiment and run, and answers so to what ends in `path`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            refused = self.path.partition("?")[0].endswith(path)
            info = {"run_id": "f" * 32, "experiment_id": "1", "status": "RUNNING", "lifecycle_stage": "active"}
            experiment = {"experiment_id": "1", "name": "e", "lifecycle_stage": "active"}
            said = {"error_code": "INTERNAL_ERROR", "message": "not for you"} if refused else {}
            if self.path.partition("?")[0].endswith(("runs/create", "runs/get")):
                said |= {"run": {"info": info, "data": {}}}
            elif "experiments/get" in self.path:
                said |= {"experiment": experiment}
            text = json.dumps(said).encode()
            self.send_response(code if refused else 200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
    finally:
        httpd.shutdown()
        httpd.server_close()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
