# eval "$(poise completion bash)"
_poise() {
    local typed=${COMP_LINE:0:COMP_POINT} words candidate finished
    # Not COMP_WORDS: bash has cut those at = and : too, wherever COMP_WORDBREAKS has them.
    # shellcheck disable=SC2162 # without -r: \ keeps a blank in a word
    read -a words <<<"$typed"
    [[ $typed == *[[:space:]] && $typed != *\\[[:space:]] ]] && words+=("")
    # Of a word, bash replaces only what stands behind the last break; one at @ is part of that.
    local current=${words[-1]} breaks=${COMP_WORDBREAKS//[[:space:]]/}$'\1'
    local kept=${current%"${current##*["$breaks"]}"}
    kept=${kept%@}
    COMPREPLY=()
    while IFS= read -r candidate; do
        [[ $candidate ]] || continue
        [[ $candidate == *' ' ]] && finished=' ' || finished=
        candidate=${candidate#"$kept"} candidate=${candidate% }
        COMPREPLY+=("${candidate// /\\ }$finished")
    done < <(IFS=$'\n' && "${words[0]/#\~/$HOME}" completion words "${words[*]}"$'\n' 2>/dev/null)
    compopt -o nospace 2>/dev/null # a finished word brings its own blank
}
complete -F _poise poise
