#!/usr/bin/env bash
# Train on several machines without Slurm: sets up all that is needed in .venv, then has torchrun start the ranks.
#
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=first launch/torchrun.sh recipe=trades trainer.devices=4 run_dir=/shared/mine
set -euo pipefail

usage() {
    cat <<'TEXT'
launch/torchrun.sh path=value …  train with torchrun; the first call makes the environment in .venv

Call it once on each machine, with the same arguments. trainer.devices are the ranks of each machine, and run_dir is
a directory that all of them share.
  NNODES=2             machines; without it there is this one alone
  NODE_RANK=0          which one this is, from 0
  MASTER_ADDR=first    name or address of machine 0
  MASTER_PORT=29500    a free port of machine 0

Examples
  launch/torchrun.sh recipe=trades trainer.devices=4
  NNODES=2 NODE_RANK=0 MASTER_ADDR=first launch/torchrun.sh recipe=trades trainer.devices=4 run_dir=/shared/mine
  NNODES=2 NODE_RANK=1 MASTER_ADDR=first launch/torchrun.sh recipe=trades trainer.devices=4 run_dir=/shared/mine

It needs Python 3.11 or newer with venv, no git and no root; PYTHON=/path/to/python3 chooses one.
TEXT
}

# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
prepare "$@"
exec "$bin/python" -m poise.torchrun "$@"
