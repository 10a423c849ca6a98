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

home() { # of this file, whatever links lead to it
    local file=${BASH_SOURCE[0]} link
    while [ -L "$file" ]; do
        link=$(readlink "$file")
        case $link in /*) file=$link ;; *) file=$(dirname "$file")/$link ;; esac
    done
    cd "$(dirname "$file")" && pwd -P
}

extra=
for argument in "$@"; do
    case $argument in
    -h | --help) usage && exit ;;
    strategy=deepspeed*) extra=deepspeed ;;
    ?*=* | -*) ;;
    *) # said now, not after minutes of set-up
        printf '%s is not of the form path=value, such as trainer.max_epochs=10.\n' "'$argument'" >&2
        exit 2
        ;;
    esac
done

here=$(home)
if [ ! -f "$here/../pyproject.toml" ]; then # shipped inside an installed poise
    exec poise train "$@"
fi
"$here/setup.sh" $extra
exec "$here/../.venv/bin/poise" train "$@"
