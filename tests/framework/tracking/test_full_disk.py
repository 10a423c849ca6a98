"""A tracker whose own disk is full, for real: the run goes on, and says what is lost."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracked_runs import statuses, stored_twice, wait_for, worker


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 512 kilobytes, on which the run's tracking lies."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this process may not mount a file system")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tracking").symlink_to(folder)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_tracker_without_room_drops_values_and_never_a_run(disk: Path, tmp_path: Path) -> None:
    process = worker(tmp_path, 1, 3000, pause=0.002)
    wait_for(lambda: (disk / "spool.jsonl").exists() and (disk / "spool.jsonl").stat().st_size > 20_000)
    (disk / "ballast").write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize))
    assert process.wait(120) == 0, (tmp_path / "run.err").read_text()
    assert (tmp_path / "run" / "report.json").is_file()
    said = (tmp_path / "run.err").read_text()
    assert re.search(r"Tracking dropped \d+ values and files: run/tracking was full", said)
    assert "Traceback" not in said
    (disk / "ballast").unlink()
    assert worker(tmp_path, 1, 3000).wait(120) == 0
    assert statuses(tmp_path / "mlflow.db") == ["FINISHED"]
    assert stored_twice(tmp_path / "mlflow.db") == []
