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
EVERY = {"checkpoint_every": 2}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
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


def newest_step(run_dir: Path) -> int:
    kept = checkpoint.newest(run_dir / "checkpoints")
    assert kept is not None
    return int(kept.facts["step"])


@pytest.mark.parametrize("left", [0, 16_000, 24_000])
def test_a_disk_that_is_full_when_a_checkpoint_is_written_stops_the_run_which_goes_on_once_there_is_room(
    disk: Path, tmp_path: Path, left: int
) -> None:
    run_dir = disk / "run"
    said = f"^{run_dir} cannot be written: No space left on device; free space there; the same command .* goes on from step 4$"
    with acting(6, lambda: fill(disk, left)), pytest.raises(DiskRefuses, match=said):
        finished(run_dir)
    assert newest_step(run_dir) == 4
    assert not list((run_dir / "checkpoints").glob("*.partial"))
    (disk / BALLAST).unlink()
    assert same(finished(tmp_path / "whole"), finished(run_dir))


@pytest.mark.parametrize("left", [0, 4096, 8192, 16_384, 32_768, 65_536])
def test_a_disk_that_is_full_after_the_training_costs_pictures_or_says_how_to_go_on(
    disk: Path, tmp_path: Path, left: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = disk / "run"
    with acting(-1, lambda: fill(disk, left)):
        try:
            finished(run_dir)
        except DiskRefuses as error:
            assert str(error).startswith(
                f"{run_dir} cannot be written: No space left on device; free space there; the "
            )
            assert not RunDirectory(run_dir).finished
        else:
            assert "cannot be made" in capsys.readouterr().err
            assert (run_dir / "predictor" / "model.safetensors").is_file()
            return
    (disk / BALLAST).unlink()
    assert same(finished(tmp_path / "whole"), finished(run_dir))


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


def test_a_folder_that_becomes_read_only_stops_the_run_and_spoils_nothing(disk: Path, tmp_path: Path) -> None:
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
    assert same(finished(tmp_path / "whole"), finished(disk / "run"))


def test_a_limit_on_the_size_of_files_stops_the_run_with_the_way_out(tmp_path: Path) -> None:
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
    assert same(finished(tmp_path / "whole"), finished(run_dir))


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
