#!/usr/bin/env bash
# Train on this machine: sets up all that is needed in .venv, then runs `poise train` with the arguments given.
#
#   launch/local.sh recipe=trades
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)

if [ ! -f "$here/../pyproject.toml" ]; then # shipped inside an installed poise
    exec poise train "$@"
fi

extra=
for argument in "$@"; do
    case $argument in strategy=deepspeed*) extra=deepspeed ;; esac
done
"$here/setup.sh" $extra
exec "$here/../.venv/bin/poise" train "$@"
