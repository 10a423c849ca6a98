"""Disks that take no more, for real: small file systems that are full, read-only ones, a limit on files."""

import errno
import os
import resource
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from torch import Tensor

from left_behind import same
from poise import checkpoint
from poise.batch import Batch
from poise.disk import DiskRefuses, disk_told
from poise.errors import UserError
from poise.recipe import Recipe
from poise.run_directory import RunDirectory
from poise.step import Step
from small_runs import small_fit

BALLAST = "ballast"
MOUNT = ("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs")
FULL = "cannot be written: No space left on device; free space there"
EVERY = {"checkpoint_every": 2}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run([*MOUNT, folder], capture_output=True, check=False).returncode:
        pytest.skip("this process may not mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(folder: Path, left: int = 0) -> None:
    """Fill a disk, but for so many bytes."""
    (folder / BALLAST).unlink(missing_ok=True)
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    (folder / BALLAST).write_bytes(bytes(free - left))


class Acts(Recipe):
    """Does something, once armed, after a step or once the training is over; then makes a table."""

    at: ClassVar[int | None] = None
    act: ClassVar[Any] = None

    def on_step_end(self, batch: Batch, step: Step) -> None:
        if step.global_step + 1 == Acts.at:
            Acts.act()

    def after_fit(self, step: Step) -> Mapping[str, Tensor]:
        if Acts.at == -1:
            Acts.act()
        return {"ones": next(step.model.parameters()).new_ones(1000)}


@contextmanager
def acting(at: int, act: Any) -> Iterator[None]:
    Acts.at, Acts.act = at, staticmethod(act)
    try:
        yield
    finally:
        Acts.at = Acts.act = None


def finished(run_dir: Path) -> Path:
    small_fit(run_dir, Acts(), EVERY, calibration="none")
    return run_dir


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a disk that is large enough."""
    return finished(tmp_path_factory.mktemp("whole") / "run")


def newest_step(run_dir: Path) -> int:
    kept = checkpoint.newest(run_dir / "checkpoints")
    assert kept is not None
    return int(kept.facts["step"])


@pytest.mark.parametrize("left", [0, 20_000])
def test_a_disk_that_is_full_when_a_checkpoint_is_written_stops_the_run_which_goes_on_once_there_is_room(
    disk: Path, whole: Path, left: int
) -> None:
    run_dir = disk / "run"
    said = f"^{run_dir} {FULL}; the same command with run_dir={run_dir} goes on from step 4$"
    with acting(6, lambda: fill(disk, left)), pytest.raises(DiskRefuses, match=said):
        finished(run_dir)
    assert newest_step(run_dir) == 4
    assert not list((run_dir / "checkpoints").glob("*.partial"))
    (disk / BALLAST).unlink()
    assert same(whole, finished(run_dir))


@pytest.mark.parametrize("left", [0, 4096, 16_384])
def test_a_disk_that_is_full_after_the_training_says_how_to_go_on(disk: Path, whole: Path, left: int) -> None:
    run_dir = disk / "run"
    with acting(-1, lambda: fill(disk, left)), pytest.raises(DiskRefuses, match=f"^{run_dir} {FULL}; .* from step 12$"):
        finished(run_dir)
    assert not RunDirectory(run_dir).finished
    (disk / BALLAST).unlink()
    assert same(whole, finished(run_dir))


def test_a_disk_that_has_room_for_a_predictor_alone_costs_the_pictures(
    disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with acting(-1, lambda: fill(disk, 40_000)):
        finished(disk / "run")
    assert "the figure training cannot be made: OSError: [Errno 28] No space left on device" in capsys.readouterr().err
    assert (disk / "run" / "predictor" / "model.safetensors").is_file()


def test_a_run_does_not_begin_on_a_full_disk_and_one_that_is_there_is_left_as_it_was(disk: Path) -> None:
    with acting(6, lambda: fill(disk)), pytest.raises(DiskRefuses):
        finished(disk / "run")
    config = (disk / "run" / "config.yaml").read_text()
    fill(disk)
    for name in ("run", "other"):
        with pytest.raises(
            UserError, match=r"^run_dir=\S+ cannot be written: No space left on device; free space there, or"
        ):
            finished(disk / name)
    assert (disk / "run" / "config.yaml").read_text() == config
    assert newest_step(disk / "run") == 4


def test_a_folder_that_becomes_read_only_stops_the_run_and_spoils_nothing(disk: Path, whole: Path) -> None:
    folder = disk / "run" / "checkpoints"

    def close() -> None:
        subprocess.run(["mount", "--bind", folder, folder], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)

    try:
        with acting(6, close), pytest.raises(DiskRefuses, match="Read-only file system; make it writable; .* step 4"):
            finished(disk / "run")
    finally:
        subprocess.run(["umount", folder], check=True)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(UserError, match="Read-only file system; make it writable, or name another"):
        finished(disk / "run")
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert same(whole, finished(disk / "run"))


def test_a_limit_on_the_size_of_files_stops_the_run_with_the_way_out(tmp_path: Path, whole: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    run_dir = tmp_path / "run"
    try:
        with (
            acting(6, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))),
            pytest.raises(
                DiskRefuses, match=r"File too large; raise the greatest size .*\(ulimit -f\); .* from step 4"
            ),
        ):
            finished(run_dir)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert same(whole, finished(run_dir))


def test_what_goes_wrong_elsewhere_is_not_said_of_the_disk(tmp_path: Path) -> None:
    for error in (PermissionError(errno.EACCES, "no", "/elsewhere/picture.png"), OSError("no number"), ValueError("x")):
        with pytest.raises(type(error)), disk_told(tmp_path, lambda: ""):
            raise error
    with pytest.raises(DiskRefuses, match="Permission denied; make it writable"), disk_told(tmp_path, lambda: "on"):
        raise PermissionError(errno.EACCES, "no", str(tmp_path / "inside"))


def test_a_full_disk_costs_the_log_one_line_and_no_traceback(disk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import logging

    from poise.run_directory import logged

    with logged(disk / "log.txt"):
        fill(disk)
        for _ in range(3):
            logging.getLogger("poise").info("x" * 5000)
    said = capfd.readouterr().err
    assert said == f"{disk / 'log.txt'} cannot be written: [Errno 28] No space left on device\n"
