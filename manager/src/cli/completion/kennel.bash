# kennel's completion for bash 4.4 and later. Put this line into ~/.bashrc:
#     source <(kennel completion bash)
_kennel() {
    local line=${COMP_LINE:0:COMP_POINT} words=() word current='' glued i reply kind prefix
    # bash cuts words at `=` and `:`; the parts that no blank separates are one word.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]} glued=1
        while [[ $line == [[:blank:]]* ]]; do line=${line:1} glued=''; done
        ((i < COMP_CWORD)) || word=$line
        line=${line#"$word"}
        if [[ $glued && $i -gt 0 ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
    done
    COMPREPLY=()
    # A file follows `<` and `>`.
    if ((COMP_CWORD > 0)) && [[ ${COMP_WORDS[COMP_CWORD - 1]} == *[\<\>] ]]; then
        compopt -o default
        return
    fi
    mapfile -t reply < <(command kennel __complete bash "${words[@]}" 2> /dev/null < /dev/null)
    kind=${reply[0]-}
    case $kind in
        files) compopt -o default ;;
        dirs) compopt -o dirnames -o filenames ;;
        words)
            current=${words[-1]} prefix=''
            # bash replaces only what stands behind the last `=` or `:`.
            for i in = :; do
                [[ $COMP_WORDBREAKS == *$i* && $current == *$i* ]] || continue
                word=${current%"${current##*"$i"}"}
                ((${#word} > ${#prefix})) && prefix=$word
            done
            for word in "${reply[@]:1}"; do
                word=${word%%$'\t'*}
                COMPREPLY+=("${word#"$prefix"}")
            done
            [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
            ;;
    esac
    return 0
}
complete -o nosort -F _kennel kennel
