import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from poise import ui
from poise.cli import main

MAKE = """
import sys
from mlflow import MlflowClient
client = MlflowClient("sqlite:///mlflow.db")
run = client.create_run(client.create_experiment("poise"), run_name="small")
client.log_metric(run.info.run_id, "train/loss", 0.5, step=3)
client.set_terminated(run.info.run_id)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a real database of one run."""
    folder = tmp_path_factory.mktemp("tracked")
    environment = _environment()
    subprocess.run(
        [sys.executable, "-c", MAKE], cwd=folder, env=environment, check=True, capture_output=True, timeout=120
    )
    return folder


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def _environment() -> dict[str, str]:
    """Without the tests' import hook, and without MLflow's own settings."""
    return {
        name: value for name, value in os.environ.items() if name != "PYTHONPATH" and not name.startswith("MLFLOW_")
    } | {"MLFLOW_DISABLE_TELEMETRY": "true"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listening(port: int) -> set[str]:
    """Addresses on which somebody waits for connections to a port, as the kernel has them."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            address, state = line.split()[1], line.split()[3]
            if state == "0A" and int(address.rpartition(":")[2], 16) == port:
                found.add(address.rpartition(":")[0])
    return found


def _group(leader: int) -> list[int]:
    """Living processes below one, by its place in the tree of all."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(status.parent.name)] = int(fields[1])
    found = [leader]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found[1:]


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def served(home: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`poise ui` on that database, as soon as it says where it is."""
    port = _free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "poise", "ui", f"port={port}"],
        cwd=home,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    below = _group(process.pid)
    try:
        assert re.fullmatch(
            rf"The runs in sqlite:///.*/mlflow\.db: http://127\.0\.0\.1:{port}/\S+ \(Ctrl-C.*\)\n", line
        )
        yield process, port
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
        deadline = time.monotonic() + 20
        while any(map(_alive, below)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(map(_alive, below))


def _get(address: str, body: object = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())


def test_the_runs_are_served_to_this_machine_alone_until_ctrl_c(
    served: tuple[subprocess.Popen[str], int], home: Path
) -> None:
    process, port = served
    before = {path.name for path in home.iterdir()}
    assert b"<!doctype html>" in _get(f"http://127.0.0.1:{port}/")[:200].lower()
    api = f"http://127.0.0.1:{port}/api/2.0/mlflow"
    experiments = json.loads(_get(f"{api}/experiments/search", {"max_results": 5}))["experiments"]
    ids = [found["experiment_id"] for found in experiments if found["name"] == "poise"]
    (run,) = json.loads(_get(f"{api}/runs/search", {"experiment_ids": ids}))["runs"]
    assert run["data"]["metrics"][0]["value"] == 0.5
    if Path("/proc/net/tcp").exists():
        assert _listening(port) == {"0100007F"}

    below = _group(process.pid)
    assert len(below) >= 1
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=30)
    assert (process.returncode, output, error) == (0, "", f"Starting MLflow on 127.0.0.1:{port}\n")
    assert not any(map(_alive, below))
    assert not _listening(port)
    assert {path.name for path in home.iterdir()} == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_no_server_outlives_a_killed_command(served: tuple[subprocess.Popen[str], int]) -> None:
    process, port = served
    assert _listening(port)
    process.kill()  # the fixture looks that all below it end


def test_looking_creates_no_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in ([], ["tracking.uri=sqlite:///mlflow.db"], [f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"]):
        assert main(["ui", *words]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"There is no database {tmp_path}/mlflow.db. Run this where `poise train` ran")
        assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_taken_port_is_said_with_a_free_one(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["ui", f"port={port}"]) == 2
    match = re.fullmatch(rf"port={port} is taken\. port=(\d+) is free\.\n", capsys.readouterr().err)
    assert match
    assert int(match[1]) > port


@pytest.mark.parametrize(
    ("uri", "shown"),
    [("http://tracker:5000", "http://tracker:5000"), ("https://me:hunter2@tracker/x", "https://tracker/x")],
)
def test_a_server_has_its_own_ui(uri: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ui", f"tracking.uri={uri}"]) == 0
    assert capsys.readouterr().out == f"The UI of that server is at {shown}\n"


def test_the_address_is_that_of_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:1")
    assert main(["ui"]) == 0
    assert "http://elsewhere:1" in capsys.readouterr().out


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "no.db").write_text("not a database " * 100)
    assert main(["ui", f"tracking.uri=sqlite:///{tmp_path}/no.db", f"port={_free_port()}"]) == 2
    starting, *mistakes = capsys.readouterr().err.splitlines()
    assert starting.startswith("Starting MLflow on 127.0.0.1:")
    (error,) = mistakes
    assert "The MLflow UI does not start on sqlite:///" in error
    assert "file is not a database" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["port=x"], "port=x is not an integer from 1 to 65535."),
        (["port=70000"], "port=70000 is not an integer from 1 to 65535."),
        (["port=1", "port=2"], "port is given twice: 1 and 2."),
        (["tracking.url=x"], "poise ui has no 'tracking.url': tracking.uri=…, port=…. Did you mean 'tracking.uri'?"),
        (["tracking.uri=mlruns"], "tracking.uri=mlruns is a file or folder, in which MLflow keeps no runs"),
        (["tracking.uri=htp://x"], "tracking.uri=htp://x has a scheme that MLflow does not know"),
    ],
)
def test_mistakes(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ui", *words]) == 2
    assert capsys.readouterr().err.startswith(message)


def test_the_server_ends_by_itself(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """It is said, not waited for."""
    monkeypatch.chdir(home)
    started: list[int] = []
    wait = ui._await

    def then_kill(process: "subprocess.Popen[bytes]", *rest: object) -> None:
        wait(process, *rest)  # type: ignore[arg-type]
        started.append(process.pid)
        os.killpg(process.pid, signal.SIGKILL)

    monkeypatch.setattr(ui, "_await", then_kill)
    with pytest.raises(ValueError, match="ended by itself"):
        ui.main([f"port={_free_port()}"])
    assert started
