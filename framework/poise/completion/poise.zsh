# eval "$(poise completion zsh)"
if ! whence compdef >/dev/null; then
    autoload -Uz compinit && compinit
fi
_poise() {
    local typed=${(pj:\n:)${(Q)words[1,CURRENT]}}
    local -a found finished open
    found=(${(f)"$(${(Q)words[1]} completion words $typed$'\n' 2>/dev/null)"})
    finished=(${${(M)found:#* }% })
    open=(${found:#* })
    (( $#finished )) && compadd -- $finished
    (( $#open )) && compadd -S '' -- $open
}
compdef _poise poise
