#compdef kennel
# kennel's completion for zsh. Put it where $fpath has it, before compinit runs:
#     kennel completion zsh > ~/.zfunc/_kennel
# or put this line into ~/.zshrc, behind compinit:
#     source <(kennel completion zsh)
_kennel() {
    local -a reply plain open
    local line value help
    reply=("${(@f)$(command kennel __complete zsh "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2> /dev/null < /dev/null)}")
    case $reply[1] in
        files) compset -P '*='; _files; return ;;
        dirs) compset -P '*='; _files -/; return ;;
        words) ;;
        *) return 1 ;;
    esac
    for line in "${(@)reply[2,-1]}"; do
        value=${line%%$'\t'*} help=${line#*$'\t'}
        [[ $line == *$'\t'* && -n $help ]] && help=":$help" || help=''
        # What `=` ends goes on without a blank.
        if [[ $value == *= ]]; then
            open+=("${value//:/\\:}$help")
        else
            plain+=("${value//:/\\:}$help")
        fi
    done
    local ret=1
    (( $#plain )) && _describe -V kennel plain && ret=0
    (( $#open )) && _describe -V kennel open -S '' && ret=0
    return ret
}
if [[ $funcstack[1] == _kennel ]]; then
    _kennel "$@"
else
    compdef _kennel kennel
fi
