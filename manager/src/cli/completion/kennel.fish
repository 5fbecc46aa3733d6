# kennel's completion for fish 3.4 and later. Save it where fish looks:
#     kennel completion fish > ~/.config/fish/completions/kennel.fish
function __kennel_complete
    set -l current (commandline --current-token --cut-at-cursor)
    set -l words (commandline --current-process --tokenize --cut-at-cursor) "$current"
    set -l reply (command kennel __complete fish $words 2> /dev/null < /dev/null)
    set -l prefix (string match --regex -- '^--[a-z-]+=' "$current")
    set -l path (string replace --regex -- '^--[a-z-]+=' '' "$current")
    switch "$reply[1]"
        case files
            string join -- \n "$prefix"(__fish_complete_path "$path")
        case dirs
            string join -- \n "$prefix"(__fish_complete_directories "$path")
        case words
            string join -- \n $reply[2..]
    end
end
complete --command kennel --no-files --keep-order --arguments '(__kennel_complete)'
