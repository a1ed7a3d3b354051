# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is read by the files that are sourced with it
# What every part needs: exit codes, the words of a failure, a foreign value made harmless.
# The entry sets VIRT_PROGRAM (as typed) and VIRT_VERB before anything can fail.

VIRT_VERSION=0.1.0

EXIT_FAILED=1  # the work itself failed
EXIT_USAGE=2   # the command line is wrong
EXIT_MISSING=3 # no such environment
EXIT_STATE=4   # wrong state, or refused
EXIT_HOST=5    # the host lacks something
EXIT_DENIED=6  # denied by policy
EXIT_AGAIN=75  # between our own parts only: do something first, then try again

# die CODE MESSAGE [HINT]
# MESSAGE says what is wrong and with which value; HINT is something to type.
die() {
    printf '%s: %s: %s\n' "$VIRT_PROGRAM" "$VIRT_VERB" "$2" >&2
    [[ -z ${3-} ]] || printf '  try: %s\n' "$3" >&2
    # `exec` passes the child's codes on, so its own failures have one that no verb uses.
    exit "${VIRT_EXIT:-$1}"
}

# Conversation: on stderr, never mixed with an answer.
say() {
    printf '%s\n' "$1" >&2
}

# Sets REPLY to $1 as one printable line: quoted if it is not plain ASCII, cut if it is long.
core_show() {
    local value=$1
    if ((${#value} > 60)); then value=${value:0:60}...; fi
    if [[ -z $value || $value == *[!\ -~]* ]]; then
        printf -v REPLY %q "$value"
    else
        REPLY="'$value'"
    fi
}

declare -gA FIELDS=()

# Adds a file of KEY=VALUE lines to the associative array FIELDS, without a fork. A file that
# is not there has no fields.
core_fields() {
    local lines=()
    [[ -f $1 && -r $1 ]] || return 0
    # It may vanish between the test and here: its supervisor has ended.
    { mapfile -t lines <"$1"; } 2>/dev/null || return 0
    _core_keep ${lines[@]+"${lines[@]}"}
}

# Adds the KEY=VALUE lines of a program's answer to FIELDS.
core_answer() {
    local lines=()
    mapfile -t lines <<<"$1"
    _core_keep "${lines[@]}"
}

_core_keep() {
    local line key
    for line in "$@"; do
        key=${line%%=*}
        # Anything else is no field of ours, and might be no subscript.
        [[ $line != [a-zA-Z_]*=* || $key == *[!a-zA-Z0-9_.]* ]] || FIELDS[$key]=${line#*=}
    done
}

# Sets REPLY to the word of CANDIDATES… that WORD was most likely meant to be, else empty.
core_nearest() {
    local word=$1 candidate best=$((${#1} / 3 + 2))
    shift
    REPLY=''
    ((${#word} <= 40)) || return 0
    for candidate in "$@"; do
        _core_distance "$word" "$candidate"
        if ((DISTANCE < best)); then
            best=$DISTANCE REPLY=$candidate
        fi
    done
}

# Sets DISTANCE to the number of letters to insert, remove, change or swap with the next.
_core_distance() {
    local a=$1 b=$2 i j cost least
    local -a before=() last=() row=()
    for ((j = 0; j <= ${#b}; j++)); do last[j]=$j; done
    for ((i = 1; i <= ${#a}; i++)); do
        row=("$i")
        for ((j = 1; j <= ${#b}; j++)); do
            cost=1
            if [[ ${a:i-1:1} == "${b:j-1:1}" ]]; then cost=0; fi
            least=$((last[j - 1] + cost))
            if ((last[j] + 1 < least)); then least=$((last[j] + 1)); fi
            if ((row[j - 1] + 1 < least)); then least=$((row[j - 1] + 1)); fi
            if ((i > 1 && j > 1)) && [[ ${a:i-2:2} == "${b:j-1:1}${b:j-2:1}" ]] && ((before[j - 2] + 1 < least)); then
                least=$((before[j - 2] + 1))
            fi
            row[j]=$least
        done
        before=("${last[@]}") last=("${row[@]}")
    done
    DISTANCE=${last[${#b}]}
}
