# shellcheck shell=bash
# What every launcher does before poise runs; sourced, not run.

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")

# Look at the arguments, then make the environment. Afterwards "$bin" is the folder of its programs.
prepare() {
    local argument extra=
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
    # shellcheck disable=SC2034
    if [ -f "$here/../pyproject.toml" ]; then
        "$here/setup.sh" $extra
        bin=$here/../.venv/bin
    else # shipped inside an installed poise
        bin=$(dirname "$(command -v poise)")
    fi
}
