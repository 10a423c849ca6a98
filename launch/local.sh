#!/usr/bin/env bash
# Train on this machine: sets up all that is needed in .venv, then runs `poise train` with the arguments given.
#
#   launch/local.sh recipe=trades
set -euo pipefail

usage() {
    cat <<'TEXT'
launch/local.sh path=value …     train on this machine; the first call makes the environment in .venv

Examples
  launch/local.sh recipe=trades
  launch/local.sh recipe=trades,mixup trainer.max_epochs=20 trainer.devices=2
  launch/local.sh recipe=trades trainer.devices=2 strategy=deepspeed_zero2

It needs Python 3.11 or newer with venv, no git and no root; PYTHON=/path/to/python3 chooses one. From then on
.venv/bin/poise is the command: `.venv/bin/poise help train`, `.venv/bin/poise list`.
TEXT
}

# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
prepare "$@"
exec "$bin/poise" train "$@"
