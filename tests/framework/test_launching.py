import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from poise import launching
from processes import bound

TRAINS = """
import sys, warnings
warnings.simplefilter("ignore")
import lightning as L, torch
from lightning.pytorch.plugins.environments import TorchElasticEnvironment
from poise.distributed import current_ranks, strategy
from poise.launching import under_launcher

class Line(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(self.layer.weight)
    def training_step(self, x, _):
        return (self.layer(x + current_ranks().rank)).sum()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)

trainer = L.Trainer(max_steps=1, accelerator="cpu", devices=2, logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
    strategy=strategy("auto", world_size=2, accelerator="cpu"))
module = Line()
trainer.fit(module, torch.utils.data.DataLoader(torch.ones(1, 1)))
assert under_launcher() and isinstance(trainer.strategy.cluster_environment, TorchElasticEnvironment)
import atexit
atexit.register(lambda: print("in a group at the end:", torch.distributed.is_initialized(), flush=True))
weight, threads = module.layer.weight.item(), torch.get_num_threads()
print("args", sys.argv[1:], "weight", weight, "threads", threads, flush=True)
"""

FAILS = """
import os, sys, time
rank = int(os.environ["RANK"])
if rank == 1:
    print("rank one's last words", flush=True)
    os._exit(7)
time.sleep(60)
"""

WAITS = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
rank = os.environ["RANK"]
received = []
def note(number, frame):
    received.append(number)
    with open(folder / f"signals-{rank}", "a") as file:
        file.write(f"{signal.Signals(number).name} ")
for number in (signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, note)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
(folder / f"pid-{rank}").write_text(str(os.getpid()))
while sys.argv[2] == "stubborn" or signal.SIGINT not in received:
    time.sleep(0.02)
(folder / f"saved-{rank}").write_text("checkpoint")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes a module that `python -m` finds."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where a failure's output is kept
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))

    def make(source: str) -> str:
        (tmp_path / "ranks_job.py").write_text(source)
        return "ranks_job"

    return make


def background(tmp_path: Path, job: str, mode: str, *before: str) -> "subprocess.Popen[str]":
    """A launcher of two ranks in a process of its own, with both ranks up; `before` is what starts it."""
    code = f"import sys; from poise.launching import run_ranks; sys.exit(run_ranks({job!r}, sys.argv[1:], 2))"
    process = subprocess.Popen(
        [*before, sys.executable, "-c", code, str(tmp_path), mode],
        env={**os.environ, **bound()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for(lambda: (tmp_path / "pid-0").exists() and (tmp_path / "pid-1").exists(), "the ranks to start")
    time.sleep(0.1)
    return process


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pids(tmp_path: Path) -> list[int]:
    return [int((tmp_path / f"pid-{rank}").read_text()) for rank in (0, 1)]


def test_two_ranks_train_under_ddp(
    module: Callable[[str], str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert launching.run_ranks(module(TRAINS), ["a=b"], 2, log_dir=tmp_path / "logs") == 0
    # the gradient is the mean over ranks of 1 + rank
    shown = f"args ['a=b'] weight -1.5 threads {os.environ['OMP_NUM_THREADS']}"
    for said in (capfd.readouterr().out, (tmp_path / "logs" / "rank-1.log").read_text()):
        assert shown in said
        assert "in a group at the end: False" in said


def test_the_first_failure_ends_all_and_is_shown(
    module: Callable[[str], str], capfd: pytest.CaptureFixture[str]
) -> None:
    start = time.monotonic()
    assert launching.run_ranks(module(FAILS), [], 2) == 7
    assert time.monotonic() - start < 30
    error = capfd.readouterr().err
    assert "rank 1 failed (exit code 7); the end of " in error
    assert "rank one's last words" in error


def test_a_first_ctrl_c_lets_the_ranks_finish_and_what_nohup_ignores_is_ignored(
    module: Callable[[str], str], tmp_path: Path
) -> None:
    process = background(tmp_path, module(WAITS), "obedient", "nohup")
    for pid in (process.pid, *pids(tmp_path)):
        os.kill(pid, signal.SIGHUP)
    process.send_signal(signal.SIGUSR1)
    wait_for(lambda: (tmp_path / "signals-1").exists(), "SIGUSR1 to be passed on")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert (process.returncode, output) == (0, "")
    for rank in (0, 1):
        assert (tmp_path / f"signals-{rank}").read_text() == "SIGUSR1 SIGINT "
        assert (tmp_path / f"saved-{rank}").exists()


def test_a_second_ctrl_c_ends_them_at_once(module: Callable[[str], str], tmp_path: Path) -> None:
    process = background(tmp_path, module(WAITS), "stubborn")
    process.send_signal(signal.SIGINT)
    wait_for(lambda: (tmp_path / "signals-0").exists(), "SIGINT to be passed on")
    assert all(alive(pid) for pid in pids(tmp_path))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGINT
    assert not any(alive(pid) for pid in pids(tmp_path))


def test_no_rank_outlives_a_launcher_that_is_killed(module: Callable[[str], str], tmp_path: Path) -> None:
    process = background(tmp_path, module(WAITS), "stubborn")
    process.kill()
    process.communicate(timeout=10)
    wait_for(lambda: not any(alive(pid) for pid in pids(tmp_path)), "the ranks to die", seconds=5)


def test_a_rank_killed_by_a_signal_is_reported_as_a_shell_would(module: Callable[[str], str], tmp_path: Path) -> None:
    process = background(tmp_path, module(WAITS), "stubborn")
    os.kill(pids(tmp_path)[1], signal.SIGKILL)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGKILL
    assert output.startswith("rank 1 was ended by SIGKILL (exit code 137), perhaps for memory")


def test_threads_are_shared_out_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(8))
    assert launching.rank_environment(1, 3, 1234, "id")["OMP_NUM_THREADS"] == "2"
    assert launching.rank_environment(0, 16, 1234, "id")["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert launching.rank_environment(0, 2, 1234, "id")["OMP_NUM_THREADS"] == "5"


def test_only_ranks_are_under_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert not launching.under_launcher()
    for name, value in launching.rank_environment(0, 2, 1234, "id").items():
        monkeypatch.setenv(name, value)
    assert launching.under_launcher()
