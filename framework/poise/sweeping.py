"""A sweep becomes an array of jobs of a Slurm cluster, and what did not finish of it another."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from poise import sweep as sweeps
from poise.config import CHECKS_OF_A_SWEEP, Config
from poise.config.axes import axes_of, parse_runs, parse_sweep
from poise.errors import UserError
from poise.job import Array, ranks_in_words, script
from poise.last_words import command
from poise.progress import say
from poise.run_directory import RunDirectory, default_path
from poise.secrets import redact
from poise.slurm import squeue
from poise.submitting import NO_SLURM, checked, keep_number, number_of, places_of, prepare, submitted, undone
from poise.sweep import Sweep
from poise.sweep_table import table
from poise.tracking import address, parent
from poise.tracking.tracker import quiet

FINISHED, FAILED = "finished", "failed"


def main(arguments: Sequence[str], dry: bool = False) -> int:
    """Submit all runs that arguments describe, as one array of jobs; returns the exit code.

    Args:
        arguments: `path=value`; a path given several times is an axis.
        dry: whether nothing is written or submitted, and the job itself printed.

    Raises:
        UserError: nothing can be submitted; nothing is left behind.
    """
    found = parse_sweep(arguments, CHECKS_OF_A_SWEEP)
    directories = {run.config.run_dir for run in found}
    if len(directories) > 1:
        raise UserError("run_dir is given several times: a sweep has one directory, in which each run has its own.")
    path = Path(directories.pop() or default_path(("sweep",)))
    sweep = Sweep(path, sweeps.named([run.values for run in found]))
    if dry:
        _show(table(sweep, {}), dry)
    elif shutil.which("sbatch") is None:
        raise UserError(_no_slurm(arguments))
    return _submit(sweep, dict(zip(sweep.runs, (run.config for run in found), strict=True)), dry)


def again(arguments: Sequence[str], dry: bool = False) -> int:
    """Submit those runs of a sweep once more that neither have finished nor are under way; returns the exit code.

    Args:
        arguments: `run_dir=` of the sweep, and `path=value` that its jobs are to have from now on.
        dry: as of main.

    Raises:
        UserError: there is no such sweep, or nothing can be submitted.
    """
    given = [word for word in arguments if word.startswith("run_dir=")]
    if len(given) != 1 or given[0] == "run_dir=":
        raise UserError("poise submit --resubmit-failed takes run_dir=, the directory of one sweep.")
    sweep = sweeps.read(Path(given[0].removeprefix("run_dir=")))
    _refuse_elsewhere(sweep)
    states = _states(sweep)
    _show(table(sweep, states), dry)
    changed = [word for word in arguments if word not in given]
    failed = [name for name, state in states.items() if state == FAILED]
    if not failed:
        say("No run has failed: nothing is submitted.")
        return 0
    arguments_of = {name: _taken_up(sweep.directory(name), changed) for name in failed}
    found = parse_runs([(sweep.runs[name], arguments_of[name]) for name in failed], CHECKS_OF_A_SWEEP)
    if not dry and shutil.which("sbatch") is None:
        raise UserError(NO_SLURM)
    return _submit(sweep, dict(zip(failed, (run.config for run in found), strict=True)), dry)


def _refuse_elsewhere(sweep: Sweep) -> None:
    """Paths in the configs would mean other files, and the default database be another one."""
    if os.path.isdir(sweep.working) and not os.path.samefile(sweep.working, os.curdir):
        raise UserError(
            f"run_dir={sweep.path} was submitted in {sweep.working}, from which relative paths in it start: submit it "
            "again from there."
        )


def _taken_up(directory: RunDirectory, changed: Sequence[str]) -> list[str]:
    """Arguments by which a run goes on that its directory keeps."""
    return [f"config={directory.config}", f"run_dir={directory.path}", *changed]


def _states(sweep: Sweep) -> dict[str, str]:
    """What has become of each run: `finished`, `failed`, or what Slurm calls it while it is queued or running."""
    unfinished = [name for name in sweep.runs if not sweep.directory(name).finished]
    numbers = {name: number for name in unfinished if (number := number_of(sweep.directory(name)))}
    under_way = squeue(numbers.values())
    states = {name: under_way.get(number, FAILED).lower() for name, number in numbers.items()}
    return dict.fromkeys(sweep.runs, FINISHED) | dict.fromkeys(unfinished, FAILED) | states


def _show(text: str, dry: bool) -> None:
    """Say what there is; of a dry run not where the job is printed."""
    (sys.stderr if dry else sys.stdout).write(f"{text}\n")


def _submit(sweep: Sweep, configs: Mapping[str, Config], dry: bool) -> int:
    """Submit those runs of a sweep that there are configs of, by name."""
    places, names = places_of(sweep.path), list(sweep.runs)
    config = next(iter(configs.values()))
    array = Array(names, [names.index(name) for name in configs])
    job = checked(config, script(config, places, array), places)
    if dry:
        say(job.rstrip("\n"))
        return 0
    with undone(sweep.path):
        for name, own in configs.items():
            prepare(replace(own, run_dir=str(sweep.path / name)), sweep.directory(name))
        sweep.write()
        number, *cluster = submitted(job, places).split(";")
        for task, name in zip(array.tasks, configs, strict=True):
            keep_number(sweep.directory(name), ";".join([f"{number}_{task}", *cluster]))
    say(_told(number, config, sweep, len(configs)))
    _track(sweep, config)
    return 0


def _told(number: str, config: Config, sweep: Sweep, jobs: int) -> str:
    path = os.path.relpath(sweep.path)
    resubmit = [*command("poise"), "submit", "--resubmit-failed", f"run_dir={path}"]
    return "\n".join(
        [
            f"Job:    {number}, an array of {jobs}, each {ranks_in_words(config)}",
            f"Sweep:  {path}",
            f"See:    squeue --jobs={number}",
            f"Logs:   {path}/<run>/logs/rank-0.log, and {path}/slurm-{number}_<n>.log of the jobs themselves",
            f"Failed: {shlex.join(resubmit)}",
            f"Cancel: scancel {number}",
        ]
    )


def _track(sweep: Sweep, config: Config) -> None:
    """Make the run that stands for the sweep, before the sweep's own are there and want a database all at once."""
    if config.tracking.name == "none":
        return
    uri = address.resolve(config.tracking.uri, Path.cwd())
    try:
        with quiet():
            parent.opened(sweep, uri, config.tracking.experiment).mark("RUNNING", 0)
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        line = f"Tracking at {uri} fails ({said}): the first run to reach it makes the sweep's as well."
        sys.stderr.write(f"{redact(line)}\n")


def _no_slurm(arguments: Sequence[str]) -> str:
    """The way out where there is no Slurm: a loop of the shell."""
    axes, common = axes_of(arguments)
    names = {path: re.sub(r"\W+", "_", path, flags=re.ASCII) for path in axes}
    loops = [f"for {names[path]} in {shlex.join(values)}; do" for path, values in axes.items()]
    own = [word for word in common if not word.startswith(("slurm.", "run_dir="))]
    run = " ".join([shlex.join(["poise", "train", *own]), *(f'{path}="${names[path]}"' for path in axes)])
    return (
        "there is no sbatch here: submit where Slurm is installed, or train one after the other "
        f"({' '.join([*loops, run + ';', *('done;' for _ in axes)]).rstrip(';')}); --dry-run shows the job."
    )
