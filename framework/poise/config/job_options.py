"""What of `slurm.time` and `slurm.extra` Slurm would read as something else than was meant."""

import re
import shlex
from collections.abc import Iterator, Mapping

from poise.config.layers import shown
from poise.config.schema import SlurmConfig

_TIME = re.compile(
    r"""
    [0-9]+                                               # minutes
    | [0-9]+ (:[0-5][0-9]){1,2}                          # minutes:seconds, hours:minutes:seconds
    | [0-9]+ - ([01]?[0-9] | 2[0-3]) (:[0-5][0-9]){0,2}  # days-hours, and minutes, and seconds
    """,
    re.VERBOSE,
)
_RANKS = "slurm.gpus, or trainer.devices where there are none,"
_GPUS = ("--gpus", "--gpus-per-node", "--gpus-per-task", "--gpus-per-socket", "-G")
_TASKS = (
    *("--ntasks", "--ntasks-per-node", "--ntasks-per-gpu", "--ntasks-per-core", "--ntasks-per-socket", "-n"),
    "--tasks-per-node",
)
_OWN: Mapping[str, str] = {
    **dict.fromkeys(("--nodes", "-N"), "what slurm.nodes says. Set that."),
    **dict.fromkeys(_TASKS, f"what {_RANKS} says. Set that."),
    **dict.fromkeys(_GPUS, "what slurm.gpus says. Set that."),
    **dict.fromkeys(("--cpus-per-task", "-c"), "what slurm.cpus says. Set that."),
    **dict.fromkeys(("--time", "-t"), "what slurm.time says. Set that."),
    **dict.fromkeys(("--output", "--chdir", "-o", "-D"), "what run_dir says. Set that."),
    "--open-mode": "append, so that a job that is requeued goes on in its log. Leave it out.",
    **dict.fromkeys(("--array", "-a"), "many jobs, and a run is one. Leave it out, and submit each with its run_dir."),
    "--wrap": "a job of its own. Leave it out.",
}  # options of sbatch by what they are here


def mistakes_in_time(slurm: SlurmConfig) -> Iterator[str]:
    """A limit that Slurm would read as another one, or as none."""
    time = slurm.time
    if time is not None and (not _TIME.fullmatch(time) or not time.strip("0:-")):
        yield f"slurm.time={shown(time)} is no time limit: write minutes, 30:00, 8:00:00 or 1-12:00:00."


def mistakes_in_extra(slurm: SlurmConfig) -> Iterator[str]:
    """Options that would leave the job and its ranks of two minds, and words at which sbatch ends to read."""
    extra = slurm.extra or ""
    try:
        words = shlex.split(extra)
    except ValueError as error:
        yield f"slurm.extra={shown(extra)} is not as in a shell: {error}."
        return
    for before, word in zip(["", *words], words, strict=False):
        if option := _own(word):
            yield f"slurm.extra={shown(extra)}: {option} is {_OWN[option]}"
        elif not _is_read(before, word):
            yield f"slurm.extra={shown(extra)}: {shown(word)!r} is no option of sbatch, such as --mem=64G."


def _own(word: str) -> str:
    """The option of ours that a word is; sbatch takes the beginning of a long one for all of it."""
    if word[:2] != "--":
        return word[:2] if word[:2] in _OWN else ""
    name = word.partition("=")[0]
    if name in _OWN:
        return name
    return next((option for option in _OWN if len(name) > 3 and option.startswith(name)), "")


def _is_read(before: str, word: str) -> bool:
    """Whether a word is an option, or may be the value of the one before it."""
    if word.startswith("-"):
        return word.strip("-") != ""
    waits = re.fullmatch("--[^=]+|-.", before) is not None
    return waits and not word.startswith("#")
