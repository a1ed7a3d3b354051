# shellcheck shell=bash
# Answers: tables and fields for people, JSON for programs. No forks: `list` prints hundreds.

# Sets REPLY to $1 as a JSON string. Values are bytes; those above ASCII are passed on.
output_string() {
    local text=$1 out='' char i
    if [[ $text == *[[:cntrl:]]* ]]; then
        for ((i = 0; i < ${#text}; i++)); do
            char=${text:i:1}
            if [[ $char == [[:cntrl:]] ]]; then
                printf -v char '\\u%04x' "'$char"
            elif [[ $char == [\"\\] ]]; then
                char=\\$char
            fi
            out+=$char
        done
        REPLY="\"$out\""
        return 0
    fi
    text=${text//\\/\\\\}
    REPLY="\"${text//\"/\\\"}\""
}

# Sets REPLY to a JSON object of NAME VALUE pairs. A NAME ending in # has a number, or null
# when VALUE is none; one ending in ? a boolean; one ending in : a value that is JSON already.
output_object() {
    local object='' name value
    while (($#)); do
        name=$1 value=$2
        shift 2
        case $name in
            *'#') [[ $value =~ ^-?(0|[1-9][0-9]*)(\.[0-9]+)?$ ]] || value=null ;;
            *'?') if [[ -n $value ]]; then value=true; else value=false; fi ;;
            *:) ;;
            *)
                output_string "$value"
                value=$REPLY
                name+=' '
                ;;
        esac
        object+=", \"${name%?}\": $value"
    done
    REPLY="{${object#, }}"
}

# Prints NAME VALUE pairs, one a line; those without a value are left out.
output_fields() {
    while (($#)); do
        if [[ -n $2 ]]; then
            _output_plain "$2"
            printf '%-14s %s\n' "$1" "$REPLY"
        fi
        shift 2
    done
}

# Sets REPLY to SECONDS since 1970 as a local date and time; empty if there are none.
output_time() {
    REPLY=''
    [[ ! $1 =~ ^[0-9]+ ]] || printf -v REPLY '%(%F %H:%M:%S)T' "${BASH_REMATCH[0]}"
}

# Sets REPLY to BYTES in MiB; empty if there are none.
output_mebibytes() {
    REPLY=''
    [[ ! $1 =~ ^[0-9]+$ ]] || REPLY="$(($1 / 1048576)).$(($1 % 1048576 * 10 / 1048576)) MiB"
}

# Prints a table of COLUMNS columns, the first row being its head. States are coloured on a
# terminal.
output_table() {
    local columns=$1 i row cell line
    local -a widths=() cells=()
    shift
    for ((i = 0; i < $#; i++)); do
        row=$((i + 1))
        _output_plain "${!row}"
        cells+=("$REPLY")
        if ((${#REPLY} > ${widths[i % columns]:-0})); then widths[i % columns]=${#REPLY}; fi
    done
    for ((row = 0; row < ${#cells[@]}; row += columns)); do
        line=''
        for ((i = 0; i < columns; i++)); do
            printf -v cell '%-*s' "${widths[i]}" "${cells[row + i]}"
            output_colour "$cell"
            line+="$REPLY  "
        done
        printf '%s\n' "${line%"${line##*[! ]}"}"
    done
}

# Sets REPLY to the (padded) word of a state in its colour, on a terminal that wants colours.
output_colour() {
    REPLY=$1
    [[ -t 1 && -z ${NO_COLOR-} && ${TERM-dumb} != dumb ]] || return 0
    case ${1%% *} in
        running) REPLY=$'\e[32m'$1$'\e[0m' ;;
        starting | stopping) REPLY=$'\e[33m'$1$'\e[0m' ;;
        crashed | damaged) REPLY=$'\e[31m'$1$'\e[0m' ;;
    esac
}

# Sets REPLY to $1 as it may be shown: bytes that could draw on the terminal are quoted.
_output_plain() {
    REPLY=$1
    [[ $1 != *[!\ -~]* ]] || printf -v REPLY %q "$1"
}
