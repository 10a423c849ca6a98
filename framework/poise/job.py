"""The script of a Slurm job that trains a config, or of an array of them: text, and nothing but text."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from poise.config import Config
from poise.config.job_options import seconds_of_notice
from poise.run_directory import RunDirectory, stack_name

LINES = 20  # of each rank's log that the job's own shows where the job failed


@dataclass(frozen=True)
class Places:
    """Where a job is at home.

    Args:
        run: directory of the run, or of the sweep that has runs in it, on a file system of all nodes.
        working: directory that the ranks start in.
        python: interpreter of the ranks.
    """

    run: RunDirectory
    working: Path
    python: Path


@dataclass(frozen=True)
class Array:
    """Jobs that differ in their run alone.

    Args:
        runs: names of all directories in the sweep's, each one word of letters, digits and =,.+-_.
        tasks: places in `runs` of those to train, in order.
    """

    runs: Sequence[str]
    tasks: Sequence[int]


def script(config: Config, places: Places, array: Array | None = None) -> str:
    """What `sbatch` takes: one task of `srun` is one rank, with a log of its own.

    Args:
        config: of the run; of an array, of any of its runs, for they ask a cluster for the same.
        places: of the job, or of the array.
        array: the runs, where there are several.
    """
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in _options(config, places, array)),
            "set -e",
            *([] if config.slurm.setup is None else ["", config.slurm.setup.rstrip("\n")]),
            "",
            *MEETING,
            "",
            *_run(places, array),
            *SAYING,
            f"{_srun(config, places)} || {{",
            "    status=$?",
            *YIELDING,
            f'    tail -n {LINES} "$run"/logs/rank-*.log || :',  # there is none where no rank came to start
            '    exit "$status"',
            "}",
            "# nothing failed: a run without its report stopped to go on later",
            '[ -f "$run/report.json" ] || again',
            "",
        ]
    )


MEETING = (  # the ranks meet on the first node, or where the user says
    'if [ -z "${MASTER_ADDR:-}" ]; then',
    '    hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")',
    "    MASTER_ADDR=${hosts%%$'\\n'*}",
    "fi",
    "MASTER_PORT=${MASTER_PORT:-$((10000 + SLURM_JOB_ID % 20000))}",
    "export MASTER_ADDR MASTER_PORT",
)

SAYING = (  # the job's log is one for all its starts
    'say() { echo "$(date "+%F %T") job $job: $*"; }',
    'again() { say "back into the queue, to go on later" && scontrol requeue "$job"; }',
    'say "start $((${SLURM_RESTART_COUNT:-0} + 1)) on $SLURM_JOB_NODELIST, in $run"',
)

YIELDING = (  # of those whose job is over, by scancel or its limit, Slurm says something else
    "    # ended by SIGTERM in a job that is to go on: it makes room for another",
    '    if [ "$status" = 143 ] && [ "$(squeue --noheader --format=%T --jobs="$job")" = RUNNING ]; then',
    "        again",
    "        exit",
    "    fi",
)


def _run(places: Places, array: Array | None) -> Iterator[str]:
    """The run's directory and the job's number, in variables of the shell.

    One job of an array may have the number that stands for all of them.
    """
    directory = shlex.quote(str(places.run.path))
    if array is None:
        yield from ("job=$SLURM_JOB_ID", f"run={directory}")
        return
    yield from ("runs=(", *(f"    '{name}'" for name in array.runs), ")")
    yield "job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
    yield f"run={directory}/${{runs[SLURM_ARRAY_TASK_ID]}}"


def _options(config: Config, places: Places, array: Array | None) -> Iterator[str]:
    slurm, name = config.slurm, "%j" if array is None else "%A_%a"
    values = {
        "job-name": stack_name(tuple(config.recipe) if array is None else (places.run.path.name,)),
        "array": None if array is None else _tasks(array, slurm.parallel),
        "nodes": slurm.nodes or 1,
        "ntasks-per-node": config.ranks_on_a_node,
        "gpus-per-node": slurm.gpus,
        "cpus-per-task": slurm.cpus,
        "time": slurm.time,
        "account": slurm.account,
        "partition": slurm.partition,
        "qos": slurm.qos,
        "constraint": slurm.constraint,
        "chdir": places.working,
        "output": f"{str(places.run.path).replace('%', '%%')}/slurm-{name}.log",
        "open-mode": "append",  # a job that is requeued goes on where it wrote
        "signal": f"USR1@{notice}" if (notice := seconds_of_notice(slurm)) else None,
    }
    yield from (f"--{name}={_word(str(value))}" for name, value in values.items() if value is not None)
    yield "--requeue"
    if slurm.extra is not None:
        yield " ".join(map(_word, shlex.split(slurm.extra)))


def _srun(config: Config, places: Places) -> str:
    """Since Slurm 22.05 a step does not take the job's cores per task by itself.

    What the job's script exports reaches the ranks also where the job itself was submitted with --export=NONE.
    """
    slurm = config.slurm
    cores = [] if slurm.cpus is None else [f"--cpus-per-task={slurm.cpus}"]
    python = slurm.python or str(places.python)
    words = shlex.join(["srun", "--export=ALL", "--kill-on-bad-exit=1", *cores, "--open-mode=append"])
    output = '--output="${run//%/%%}/logs/rank-%t.log"'  # a name that Slurm fills in
    rank = shlex.join([python, "-m", "poise.slurm_task", "train"])
    before = [] if slurm.prefix is None else [slurm.prefix]
    return " \\\n    ".join([f"{words} {output}", *before, f'{rank} config="$run/config.yaml"'])


def _tasks(array: Array, parallel: int | None) -> str:
    """As Slurm writes places in an array: `0-2,5%2` are four, two of them at a time."""
    ranges = []
    for _, some in groupby(enumerate(array.tasks), lambda item: item[1] - item[0]):
        tasks = [task for _, task in some]
        ranges.append(f"{tasks[0]}-{tasks[-1]}" if len(tasks) > 1 else f"{tasks[0]}")
    return ",".join(ranges) + ("" if parallel is None else f"%{parallel}")


def _word(word: str) -> str:
    """One word of an #SBATCH line, which knows quotes and backslashes much as a shell, and a # that ends it."""
    if word and not set(word) & set(" \"'\\#"):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def ranks_in_words(config: Config) -> str:
    """Such as `8 ranks on 2 nodes`."""
    counts = {"rank": config.trainer.devices, "node": config.slurm.nodes or 1}
    return " on ".join(f"{count} {noun}{'s' * (count > 1)}" for noun, count in counts.items())
