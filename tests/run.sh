#!/usr/bin/env bash
# Set up the environment, then check style, types and behaviour. Arguments go to pytest; without any, two of its
# processes share the tests.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
launch/setup.sh dev

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
[ $# -gt 0 ] || set -- --numprocesses=2 --dist=loadfile
exec .venv/bin/python -m pytest "$@"
