#!/usr/bin/env bash
# Train on a Slurm cluster: sets up all that is needed in .venv, then submits the run with `poise submit`.
#
#   launch/slurm.sh recipe=trades slurm.nodes=2 slurm.gpus=4
set -euo pipefail

usage() {
    cat <<'TEXT'
launch/slurm.sh path=value …     submit a run; the first call makes the environment in .venv
launch/slurm.sh --sweep …        submit a run for each combination of what is given several times

Examples
  launch/slurm.sh recipe=trades slurm.nodes=2 slurm.gpus=4 slurm.time=8:00:00
  launch/slurm.sh recipe=trades slurm.gpus=2 slurm.partition=gpu slurm.setup="module load cuda"
  launch/slurm.sh recipe=trades slurm.gpus=4 strategy=deepspeed_zero2 --dry-run
  launch/slurm.sh --sweep recipe=trades recipe=trades,awp seed=0 seed=1 seed=2 slurm.gpus=1

The checkout, with .venv in it, and the run's directory have to be on a file system that all nodes share. It needs
Python 3.11 or newer with venv, no git and no root; PYTHON=/path/to/python3 chooses one. More: .venv/bin/poise help submit.
TEXT
}

# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
prepare "$@"
exec "$bin/poise" submit "$@"
