#!/usr/bin/env bash
# Make poise's environment in .venv beside this checkout, or mend it; does nothing where it is complete.
#
#   launch/setup.sh [extra]      extra: deepspeed or dev (dev includes deepspeed)
#
# PYTHON names the interpreter to build on; else the first of python3, python3.x that is new enough.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
stamp=$venv/poise-setup
extra=${1:-}
unset PYTHONHOME PYTHONPATH PIP_USER

say() { printf 'poise: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local name
    for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if command -v "$name" >/dev/null && new_enough "$name"; then
            command -v "$name"
            return
        fi
    done
    return 1
}

# What a stamp says: this extra, of this pyproject, at this place (an environment cannot be moved).
wanted() { printf '%s %s\n' "$(printf '%s\n' "$root" | cat - "$root/pyproject.toml" | sha256sum | cut -c1-16)" "$1"; }

complete() {
    [ -x "$venv/bin/python" ] && [ -f "$stamp" ] && "$venv/bin/python" -c '' 2>/dev/null &&
        { grep -qxF "$(wanted "$extra")" "$stamp" || grep -qxF "$(wanted dev)" "$stamp" ||
            { [ -z "$extra" ] && grep -qxF "$(wanted deepspeed)" "$stamp"; }; }
}

debian_packages() {
    local packages=(python3 python3-venv)
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        say "installing ${packages[*]}"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2
    else
        die "$1 On Debian and Ubuntu: sudo apt-get install ${packages[*]}; elsewhere install Python 3.11 or" \
            "newer with venv and pip, or name one: PYTHON=/path/to/python3 $0"
    fi
}

make_venv() {
    local python
    if ! python=$(find_python); then
        [ -z "${PYTHON:-}" ] || die "PYTHON=$PYTHON is not a Python 3.11 or newer"
        debian_packages "no Python 3.11 or newer was found."
        python=$(find_python) || die "the system's Python is older than 3.11; name one: PYTHON=/path/to/python3 $0"
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        debian_packages "$python has no venv or no pip."
        "$python" -c 'import ensurepip, venv' 2>/dev/null || die "$python still has no venv; name another: PYTHON=…"
    fi
    say "making $venv with $("$python" --version)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
}

install() {
    say "installing poise${extra:+[$extra]} and what it needs (once; PyTorch is large)"
    rm -f "$stamp"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --progress-bar off \
        --editable "$root${extra:+[$extra]}" </dev/null >&2
    "$venv/bin/python" -c 'import lightning, poise, torch' >&2
}

exec 9<"$root"
command -v flock >/dev/null && flock 9 # two at once: the second finds the work done

complete && exit 0
"$venv/bin/python" -c 'import pip' 2>/dev/null || make_venv
if ! install; then
    say "the environment in $venv cannot be mended: once more from nothing"
    make_venv
    install || die "the set-up failed; what pip said stands above"
fi
wanted "$extra" >"$stamp"
