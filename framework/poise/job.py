"""The script of a Slurm job that trains a config: text, and nothing but text."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from poise.config import Config
from poise.config.job_options import seconds_of_notice
from poise.run_directory import RunDirectory, stack_name

LINES = 20  # of each rank's log that the job's own shows where the job failed


@dataclass(frozen=True)
class Places:
    """Where a job is at home.

    Args:
        run: directory of the run, on a file system of all nodes.
        working: directory that the ranks start in.
        python: interpreter of the ranks.
    """

    run: RunDirectory
    working: Path
    python: Path

    @property
    def log(self) -> str:
        """Of the job, as Slurm names it."""
        return f"{_pattern(self.run.path)}/slurm-%j.log"


def script(config: Config, places: Places) -> str:
    """What `sbatch` takes: one task of `srun` is one rank, with a log of its own."""
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in _options(config, places)),
            "set -e",
            *([] if config.slurm.setup is None else ["", config.slurm.setup.rstrip("\n")]),
            "",
            *MEETING,
            "",
            f"{_srun(config, places)} || {{",
            "    status=$?",
            f"    tail -n {LINES} {shlex.quote(str(places.run.ranks))}/rank-*.log",
            '    exit "$status"',
            "}",
            "# nothing failed: a run without its report stopped to go on later",
            f'[ -f {shlex.quote(str(places.run.report))} ] || scontrol requeue "$SLURM_JOB_ID"',
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


def _options(config: Config, places: Places) -> Iterator[str]:
    slurm = config.slurm
    values = {
        "job-name": stack_name(tuple(config.recipe)),
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
        "output": places.log,
        "open-mode": "append",  # a job that is requeued goes on where it wrote
        "signal": f"USR1@{notice}" if (notice := seconds_of_notice(slurm)) else None,
    }
    yield from (f"--{name}={_word(str(value))}" for name, value in values.items() if value is not None)
    yield "--requeue"
    if slurm.extra is not None:
        yield " ".join(map(_word, shlex.split(slurm.extra)))


def _srun(config: Config, places: Places) -> str:
    """Since Slurm 22.05 a step does not take the job's cores per task by itself."""
    slurm = config.slurm
    cores = [] if slurm.cpus is None else [f"--cpus-per-task={slurm.cpus}"]
    output = f"--output={_pattern(places.run.ranks)}/rank-%t.log"
    python = slurm.python or str(places.python)
    words = ["srun", "--kill-on-bad-exit=1", *cores, "--open-mode=append", output]
    rank = [python, "-m", "poise.slurm_task", "train", f"config={places.run.config}"]
    before = [] if slurm.prefix is None else [slurm.prefix]
    return " \\\n    ".join([shlex.join(words), *before, shlex.join(rank)])


def _word(word: str) -> str:
    """One word of an #SBATCH line, which knows quotes and backslashes much as a shell, and a # that ends it."""
    if word and not set(word) & set(" \"'\\#"):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _pattern(path: Path) -> str:
    """A path in a name that Slurm fills in."""
    return str(path).replace("%", "%%")


def ranks_in_words(config: Config) -> str:
    """Such as `8 ranks on 2 nodes`."""
    counts = {"rank": config.trainer.devices, "node": config.slurm.nodes or 1}
    return " on ".join(f"{count} {noun}{'s' * (count > 1)}" for noun, count in counts.items())
