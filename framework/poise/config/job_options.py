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
NOTICE = 120  # seconds
_SHORT = 600  # seconds of a job that has no notice unless it is asked for
_EARLY = 60  # seconds by which Slurm may give notice before its time
_RANKS = "slurm.gpus, or trainer.devices where there are none,"
_GPUS = ("--gpus", "--gpus-per-node", "--gpus-per-task", "--gpus-per-socket", "-G")
_TASKS = (
    *("--ntasks", "--ntasks-per-node", "--ntasks-per-gpu", "--ntasks-per-core", "--ntasks-per-socket", "-n"),
    "--tasks-per-node",
)
_NOTHING = ("--test-only", "--help", "-h", "--usage", "--version", "-V")
_GRES = re.compile(r"--gres[= ](\S*,)?(gres[:/])?gpu\b")
_OWN: Mapping[str, str] = {
    **dict.fromkeys(("--nodes", "-N"), "what slurm.nodes says. Set that."),
    **dict.fromkeys(_TASKS, f"what {_RANKS} says. Set that."),
    **dict.fromkeys(_GPUS, "what slurm.gpus says. Set that."),
    **dict.fromkeys(("--cpus-per-task", "-c"), "what slurm.cpus says. Set that."),
    **dict.fromkeys(("--time", "-t"), "what slurm.time says. Set that."),
    **dict.fromkeys(("--output", "--chdir", "-o", "-D"), "what run_dir says. Set that."),
    "--signal": "what slurm.notice says. Set that.",
    "--open-mode": "append, so that a job that is requeued goes on in its log. Leave it out.",
    **dict.fromkeys(("--array", "-a"), "what poise submit --sweep and slurm.parallel say. Set those."),
    "--wrap": "a job of its own. Leave it out.",
    "--no-requeue": "against what a run does that is stopped: it goes back into the queue. Leave it out.",
    **dict.fromkeys(_NOTHING, "what makes sbatch submit nothing. Leave it out."),
    **dict.fromkeys(("--wait", "-W"), "what makes sbatch wait until the job is over. Leave it out."),
    **dict.fromkeys(("--account", "-A"), "what slurm.account says. Set that."),
    **dict.fromkeys(("--partition", "-p"), "what slurm.partition says. Set that."),
    **dict.fromkeys(("--qos", "-q"), "what slurm.qos says. Set that."),
    **dict.fromkeys(("--constraint", "-C"), "what slurm.constraint says. Set that."),
}  # options of sbatch by what they are here


def mistakes_in_time(slurm: SlurmConfig) -> Iterator[str]:
    """A limit that Slurm would read as another one, or as none."""
    time = slurm.time
    if time is not None and (not _TIME.fullmatch(time) or not time.strip("0:-")):
        yield f"slurm.time={shown(time)} is no time limit: write minutes, 30:00, 8:00:00 or 1-12:00:00."


def mistakes_in_notice(slurm: SlurmConfig) -> Iterator[str]:
    """A notice that would be given as soon as the job starts: it would go back into the queue after each step."""
    limit = _seconds(slurm.time)
    if slurm.notice and limit is not None and limit <= slurm.notice + _EARLY:
        yield (
            f"slurm.notice={slurm.notice} would be given as soon as the job starts, for slurm.time={shown(slurm.time)} "
            f"is {limit} s and Slurm may be {_EARLY} s early: give more time or less notice; 0 gives none."
        )


def seconds_of_notice(slurm: SlurmConfig) -> int:
    """How long before its end a job is told; 0 for never."""
    if slurm.notice is not None:
        return slurm.notice
    limit = _seconds(slurm.time)
    return NOTICE if limit is None or limit >= _SHORT else 0


def _seconds(limit: str | None) -> int | None:
    """Of a limit as Slurm writes it; None where it is none."""
    if limit is None or not _TIME.fullmatch(limit):
        return None
    days, dash, rest = limit.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, minutes, seconds = [*parts, 0, 0][:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:
        hours, (minutes, seconds) = 0, [*parts, 0][:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def mistakes_in_extra(slurm: SlurmConfig) -> Iterator[str]:
    """Options that would leave the job and its ranks of two minds, and words at which sbatch ends to read."""
    extra = slurm.extra or ""
    try:
        words = shlex.split(extra)
    except ValueError as error:
        yield f"slurm.extra={shown(extra)} is not as in a shell: {error}."
        return
    if slurm.gpus is not None and _GRES.search(" ".join(words)):
        both = f"--gres=gpu asks for GPUs, and so does slurm.gpus={slurm.gpus}"
        yield f"slurm.extra={shown(extra)}: {both}: leave one out."
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
