#!/usr/bin/env bash
# Make poise's environment in .venv beside this checkout, or mend it; does nothing where it is complete.
#
#   launch/setup.sh [extra]      extra: deepspeed or dev (dev includes deepspeed)
#
# PYTHON names the interpreter to build on; else the first of python3, python3.x that is new enough.
set -euo pipefail

say() { printf 'poise: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }
trap 'say "interrupted; the same command goes on"; exit 130' INT

home() { # of this file, whatever links lead to it
    local file=${BASH_SOURCE[0]} link
    while [ -L "$file" ]; do
        link=$(readlink "$file")
        case $link in /*) file=$link ;; *) file=$(dirname "$file")/$link ;; esac
    done
    cd "$(dirname "$file")" && pwd -P
}

root=$(dirname "$(home)")
venv=$root/.venv
stamp=$venv/poise-setup
extra=${1:-}
unset PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX

case $extra in
-h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$root/launch/setup.sh" && exit ;;
'' | deepspeed | dev) ;;
*) say "there is no extra '$extra': deepspeed or dev" && exit 2 ;;
esac

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
has_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

find_python() {
    local name
    if [ -n "${PYTHON:-}" ]; then
        command -v "$PYTHON" >/dev/null && new_enough "$PYTHON" && command -v "$PYTHON"
        return
    fi
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$name" >/dev/null && new_enough "$name"; then
            command -v "$name"
            return
        fi
    done
    return 1
}

# What a stamp says: this extra, of this pyproject, at this place (an environment cannot be moved).
wanted() { printf '%s %s\n' "$(printf '%s\n' "$root" | cat - "$root/pyproject.toml" | cksum | cut -d' ' -f1,2)" "$1"; }

complete() {
    [ -x "$venv/bin/python" ] && [ -f "$stamp" ] && "$venv/bin/python" -c '' 2>/dev/null &&
        { grep -qxF "$(wanted "$extra")" "$stamp" || grep -qxF "$(wanted dev)" "$stamp" ||
            { [ -z "$extra" ] && grep -qxF "$(wanted deepspeed)" "$stamp"; }; }
}

# Made here and not moved or copied (scripts in bin name their interpreter), with a pip, and with no package that was
# cut off after its metadata: pip would take that for installed.
usable() {
    local metadata
    head -n 2 "$venv/bin/pip" 2>/dev/null | grep -qF "$venv/bin/" || return 1
    "$venv/bin/python" -c 'import pip' 2>/dev/null || return 1
    for metadata in "$venv"/lib/python3*/site-packages/*.dist-info; do
        [ -f "$metadata/RECORD" ] || return 1
    done
}

# The command that brings a Python with venv to this system; of one that lacks venv its version is given.
bringing() {
    local sudo=sudo
    [ "$(id -u)" -ne 0 ] || sudo=
    if command -v apt-get >/dev/null; then
        echo "$sudo apt-get install $([ -n "$1" ] && echo "python$1-venv" || echo "python3 python3-venv")"
    elif command -v dnf >/dev/null; then
        echo "$sudo dnf install python3.12"
    elif command -v zypper >/dev/null; then
        echo "$sudo zypper install python312"
    elif command -v pacman >/dev/null; then
        echo "$sudo pacman -S python"
    elif command -v apk >/dev/null; then
        echo "$sudo apk add python3"
    elif command -v brew >/dev/null; then
        echo "brew install python"
    fi
}

# Install what is missing where that can be done without asking; else say what is missing and what brings it.
bring() {
    local missing=$1 command
    command=$(bringing "$2" | sed 's/^ //')
    if [ "$(id -u)" -eq 0 ] && [[ $command == apt-get* ]]; then
        say "$missing: $command"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq >&2 || true
        ${command/install/install -y -qq --no-install-recommends} >&2 && return
    fi
    die "$missing. ${command:+Install it: $command. }Or name a Python 3.11 or newer that has venv and pip:" \
        "PYTHON=/path/to/python3 $0"
}

make_venv() {
    local python
    if ! python=$(find_python); then
        [ -z "${PYTHON:-}" ] || die "PYTHON=$PYTHON is not a Python 3.11 or newer"
        bring "no Python 3.11 or newer is installed" ""
        python=$(find_python) || die "the system's Python is older than 3.11; name another: PYTHON=/path/to/python3 $0"
    fi
    if ! has_venv "$python"; then
        bring "$python has no venv or no pip" "$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
        has_venv "$python" || die "$python still has no venv; name another: PYTHON=/path/to/python3 $0"
    fi
    say "making $venv with $("$python" --version)"
    rm -rf "$venv"
    "$python" -m venv "$venv" >&2
}

install() {
    local quiet=(--quiet --progress-bar off)
    [ ! -t 2 ] || quiet=() # somebody watches: what pip fetches, with its bars
    say "installing poise${extra:+[$extra]} and what it needs (once, minutes; PyTorch is large)"
    rm -f "$stamp"
    "$venv/bin/python" -m pip install ${quiet[@]+"${quiet[@]}"} --disable-pip-version-check \
        --editable "$root${extra:+[$extra]}" </dev/null >&2 &&
        "$venv/bin/python" -c 'import lightning, poise, torch' >&2
}

[ -f "$root/pyproject.toml" ] || die "$root is no checkout of poise: there is nothing to set up"
[ -w "$root" ] || [ -w "$venv" ] || die "$root cannot be written: poise keeps its environment in $venv"
exec 9<"$root"
if command -v flock >/dev/null && ! flock -n 9; then # two at once: the second finds the work done
    say "another set-up is at work here: waiting for it"
    flock 9
fi

complete && exit 0
if usable; then
    install || { say "the environment in $venv cannot be mended: once more from nothing" && make_venv && install; }
else
    make_venv && install
fi || die "the set-up failed; what pip said stands above"
wanted "$extra" >"$stamp"
