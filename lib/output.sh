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

# Dots on a terminal, one for each second that the work takes, until output_progress_end or our
# end, however we end.
output_progress() {
    PROGRESS=''
    [[ -t 2 ]] || return 0
    # `read` waits by itself: a sleep would outlive the kill, and keep the lock that it inherits.
    while ! read -rt 1 <> <(:) && [[ -d /proc/$$ ]]; do printf . >&2; done &
    PROGRESS=$!
}

output_progress_end() {
    [[ -n $PROGRESS ]] || return 0
    kill "$PROGRESS" 2>/dev/null || true
    wait "$PROGRESS" 2>/dev/null || true
    # Whatever dots there are make room for the answer.
    printf '\r\e[K' >&2
}

# Prints a table of COLUMNS columns, the first row being its head. States are coloured on a
# terminal.
output_table() {
    local columns=$1 i cell format=''
    local -a widths=() cells=()
    shift
    for cell in "$@"; do
        if [[ $cell == *[!\ -~]* ]]; then printf -v cell %q "$cell"; fi
        i=$((${#cells[@]} % columns))
        cells+=("$cell")
        if ((${#cell} > ${widths[i]:-0})); then widths[i]=${#cell}; fi
    done
    for ((i = 0; i < columns - 1; i++)); do format+="%-${widths[i]}s  "; done
    if [[ -t 1 && -z ${NO_COLOR-} && ${TERM-dumb} != dumb ]]; then
        for i in "${!cells[@]}"; do
            _output_colour "${cells[i]}" "${widths[i % columns]}"
            cells[i]=$REPLY
        done
    fi
    # One printf for all rows: a call for each cell took most of `list`'s time.
    # shellcheck disable=SC2059 # the format has widths alone
    printf "$format%s\n" "${cells[@]}"
}

# Sets REPLY to a state in its colour, padded to WIDTH (printf would count the escapes); to any
# other word as it is.
_output_colour() {
    local colour
    REPLY=$1
    case $1 in
        running) colour=32 ;;
        starting | stopping) colour=33 ;;
        crashed | damaged) colour=31 ;;
        *) return 0 ;;
    esac
    printf -v REPLY '\e[%sm%-*s\e[0m' "$colour" "$2" "$1"
}

# Sets REPLY to $1 as it may be shown: bytes that could draw on the terminal are quoted.
_output_plain() {
    REPLY=$1
    [[ $1 != *[!\ -~]* ]] || printf -v REPLY %q "$1"
}
