"""A composed config becomes a job of a Slurm cluster."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from poise import kept
from poise.config import Config, to_yaml
from poise.errors import UserError
from poise.job import Places, ranks_in_words, script
from poise.run_directory import RunDirectory, default_path
from poise.slurm import sbatch, squeue

NO_SLURM = (
    "there is no sbatch here: submit where Slurm is installed, or start the ranks yourself (launch/torchrun.sh on each "
    "machine, poise train trainer.devices=N on one); --dry-run shows the job."
)
NUMBER = re.compile(r"[0-9]+(_[0-9]+)?(;\S+)?")  # as sbatch gives it, of an array with the task's own
NO_NUMBER = "see that no job of this run is queued or running (squeue --me), then delete it"


def submit(config: Config, dry: bool = False) -> str:
    """Submit a run; returns what to tell the user: the job's number, and where to look.

    Args:
        config: of the run. Where it names no directory, one is chosen now, so that all ranks have the same.
        dry: whether nothing is written or submitted, and the job itself returned.

    Raises:
        UserError: nothing can be submitted; nothing is left behind.
    """
    if config.run_dir is None:
        config = replace(config, run_dir=str(default_path(tuple(config.recipe))))
    places = places_of(Path(str(config.run_dir)))
    _refuse_finished(places.run)
    _refuse_queued(places.run)
    job = checked(config, script(config, places), places)
    if dry:
        return job.rstrip("\n")
    if shutil.which("sbatch") is None:
        raise UserError(NO_SLURM)
    return _told(_submitted(config, job, places), config, places)


def _refuse_finished(directory: RunDirectory) -> None:
    if directory.finished:
        raise UserError(
            f"run_dir={directory.path} holds a finished run: look at its report.html, or name another run_dir."
        )


def _refuse_queued(directory: RunDirectory) -> None:
    """Two jobs of one run would go on from the same checkpoint."""
    number = number_of(directory)
    if number is not None and number in squeue([number]):
        job, _, cluster = number.partition(";")
        words = [*([f"--clusters={cluster}"] if cluster else []), job]
        raise UserError(
            f"job {job} of run_dir={directory.path} is still queued or running: wait for it, or scancel "
            f"{' '.join(words)} first."
        )


def number_of(directory: RunDirectory) -> str | None:
    """What sbatch said of a run's last job; None where none was submitted.

    Raises:
        UserError: nobody can tell.
    """
    file = _number_file(directory)
    if not file.is_file():
        return None
    number = kept.read_text(file, NO_NUMBER).strip()
    if not NUMBER.fullmatch(number):
        raise kept.damaged(file, "this is no number of a job", NO_NUMBER)
    return number


def keep_number(directory: RunDirectory, number: str) -> None:
    """Keep what sbatch says of a run's job."""
    kept.write_text(_number_file(directory), f"{number}\n")


def _number_file(directory: RunDirectory) -> Path:
    return directory.path / "job.txt"


def places_of(directory: Path) -> Places:
    """Where a job is at home that this process submits."""
    return Places(RunDirectory(directory.absolute()), Path.cwd(), Path(sys.executable))


def checked(config: Config, job: str, places: Places) -> str:
    """A job's script that Slurm and the shell read as it is meant.

    Raises:
        UserError: they would not.
    """
    _refuse_names(places)
    _refuse_shell(config, job)
    return job


def _refuse_names(places: Places) -> None:
    """Slurm reads a job's options line by line, and takes no name with a backslash for what it is."""
    for what, path in (("run_dir", places.run.path), ("the working directory", places.working)):
        text = str(path)
        if "\\" in text or not text.isprintable():
            stranger = "\\" if text.isprintable() else "control characters"
            raise UserError(
                f"{what} {text!r} has a name that cannot stand in a job: name another without {stranger} in it."
            )


def _refuse_shell(config: Config, job: str) -> None:
    """What is shell in a config is asked of a shell: each part by itself, for it must not swallow what follows it."""
    setup, prefix = config.slurm.setup, config.slurm.prefix
    if setup is not None and (said := _bash_says(setup)):
        raise UserError(f"slurm.setup is not whole commands of bash: {said}")
    # of the words of an array bash takes no comment, no |, no ; and no backslash at the end
    if prefix is not None and (said := _bash_says(f"words=({prefix})")):
        raise UserError(f"slurm.prefix={prefix} is not the first words of a command: {said}")
    if said := _bash_says(job):
        raise UserError(f"slurm.setup and slurm.prefix do not make a script that bash can read: {said}")


def _bash_says(text: str) -> str:
    """Of shell that it only reads, warnings as well: of a here-document without an end there is no more."""
    bash = shutil.which("bash")
    if bash is None:
        return ""
    done = subprocess.run([bash, "-n"], input=text, env={"LC_ALL": "C"}, capture_output=True, encoding="utf-8")
    first, *_ = *done.stderr.splitlines(), ""
    return first.removeprefix(f"{bash}: ")


def _submitted(config: Config, job: str, places: Places) -> str:
    """Write what the job needs, and submit it; returns its number."""
    with undone(places.run.path):
        prepare(config, places.run)
        number = submitted(job, places)
        keep_number(places.run, number)
    return number.partition(";")[0]


@contextmanager
def undone(path: Path) -> Iterator[None]:
    """Leave no new directory behind where something goes wrong meanwhile."""
    new = not path.exists()
    try:
        yield
    except BaseException:
        if new:
            shutil.rmtree(path, ignore_errors=True)
        raise


def prepare(config: Config, directory: RunDirectory) -> None:
    """Write what the ranks of a run need to begin, or to go on."""
    directory.claim(to_yaml(replace(config, resume="auto")))
    directory.ranks.mkdir(exist_ok=True)


def submitted(job: str, places: Places) -> str:
    """Write a job's script and submit it; returns what sbatch says: its number, and `;` and its cluster if named."""
    file = places.run.path / "job.sh"
    file.write_text(job, encoding="utf-8")
    return sbatch(file)


def _told(number: str, config: Config, places: Places) -> str:
    run = os.path.relpath(places.run.path)
    return "\n".join(
        [
            f"Job:    {number}, {ranks_in_words(config)}",
            f"Run:    {run}",
            f"See:    squeue --jobs={number}",
            f"Logs:   {run}/logs/rank-0.log, and {run}/slurm-{number}.log of the job itself",
            f"Cancel: scancel {number}",
        ]
    )
