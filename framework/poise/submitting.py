"""A composed config becomes a job of a Slurm cluster."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from poise.config import Config, to_yaml
from poise.errors import UserError
from poise.job import Places, ranks_in_words, script
from poise.run_directory import RunDirectory, default_path

NO_SLURM = (
    "there is no sbatch here: submit where Slurm is installed, or start the ranks yourself (launch/torchrun.sh on each "
    "machine, poise train trainer.devices=N on one); --dry-run shows the job."
)


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
    places = Places(RunDirectory(Path(str(config.run_dir)).absolute()), Path.cwd(), Path(sys.executable))
    _refuse_finished(places.run)
    _refuse_queued(places.run)
    _refuse_names(places)
    job = script(config, places)
    _refuse_shell(config, job)
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
    """Two jobs of one run would go on from the same checkpoint; where no squeue can be asked, nobody knows."""
    file = _number_file(directory)
    if shutil.which("squeue") is None or not file.is_file():
        return
    number, _, cluster = file.read_text().strip().partition(";")
    there = [f"--clusters={cluster}"] if cluster else []
    words = ["squeue", "--noheader", "--format=%i", f"--jobs={number}", *there]
    listed = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    if number in listed.stdout.split():
        raise UserError(
            f"job {number} of run_dir={directory.path} is still queued or running: wait for it, or scancel "
            f"{' '.join([*there, number])} first."
        )


def _number_file(directory: RunDirectory) -> Path:
    """Keeps what sbatch said of the run's last job."""
    return directory.path / "job.txt"


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
    new = not places.run.path.exists()
    places.run.claim(to_yaml(replace(config, resume="auto")))
    try:
        places.run.ranks.mkdir(exist_ok=True)
        file = places.run.path / "job.sh"
        file.write_text(job, encoding="utf-8")
        said = _sbatch(file)
        _number_file(places.run).write_text(f"{said}\n")
    except BaseException:
        if new:
            shutil.rmtree(places.run.path)
        raise
    return said.partition(";")[0]


def _sbatch(file: Path) -> str:
    """The number of the job, and `;` and its cluster where that was named."""
    done = subprocess.run(
        ["sbatch", "--parsable", str(file)], capture_output=True, text=True, errors="replace", check=False
    )
    errors = " ".join(done.stderr.split())
    if done.returncode:
        ended = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise UserError(f"sbatch did not take the job: {errors or ended}")
    said = re.search(r"(?<!\S)[0-9]+(;\S+)?$", done.stdout.strip())  # a cluster may have words of its own before it
    if said is None:
        words = " ".join(f"{done.stdout} {errors}".split()) or "nothing"
        raise UserError(f"sbatch gave no number of a job, and said {words}")
    return said[0]


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
