# poise completion fish | source
function __poise_words
    set -l words (commandline -opc) (commandline -ct)
    set -l typed (string join \n -- $words | string collect --no-trim-newlines --allow-empty)
    $words[1] completion words "$typed" 2>/dev/null | string trim --right
end
complete -c poise -f -k -a '(__poise_words)'
