# shellcheck shell=bash
# The one parser of the command line. A verb's header comment is its help and declares its
# words and flags:
#
#   # Usage: exec NAME [--] COMMAND…
#   #   --json                 a boolean
#   #   -n, --lines N          a flag with a value
#   #   --env KEY=VALUE…       a flag that may be given again and again
#
# Flags may stand anywhere, as `--flag value` or `--flag=value`; `--` ends them, and so does
# the first word of COMMAND…, whose flags are its own.

declare -gA FLAG=()       # name → its (last) value; a boolean's is 1
declare -gA _FLAG_KIND=() # name → boolean, value or repeatable
declare -ga FLAG_WORDS=() # the flags that were given: --name, or --name and its value
declare -ga ARGS=()       # the other words
declare -ga HEADER=()     # the verb's header, its "# " removed

# Reads the header of a verb's file, up to the first line that is not a comment.
flags_read_header() {
    local line lines=()
    HEADER=() _FLAG_KIND=([help]=boolean)
    mapfile -t lines <"$1"
    for line in "${lines[@]}"; do
        [[ $line == '#'* ]] || break
        [[ $line != '# shellcheck '* ]] || continue
        line=${line#'#'}
        HEADER+=("${line# }")
        _flags_declare "${line# }"
    done
}

_flags_declare() {
    local pattern='^  (-([a-z]), )?--([a-z-]+)( ([A-Z=]+)(…)?)?(  |$)' kind=boolean
    [[ $1 =~ $pattern ]] || return 0
    if [[ -n ${BASH_REMATCH[5]} ]]; then kind=value; fi
    if [[ -n ${BASH_REMATCH[6]} ]]; then kind=repeatable; fi
    _FLAG_KIND[${BASH_REMATCH[3]}]=$kind
    if [[ -n ${BASH_REMATCH[2]} ]]; then _FLAG_KIND[-${BASH_REMATCH[2]}]=${BASH_REMATCH[3]}; fi
}

# Parses a verb's words into FLAG, FLAG_WORDS and ARGS, as the header that was read declares.
flags_parse() {
    local word name value most=0 word_names=() words_before_command=1000000
    FLAG=() FLAG_WORDS=() ARGS=()
    _flags_count
    while (($#)); do
        word=$1
        shift
        case $word in
            --)
                ARGS+=("$@")
                break
                ;;
            -?*)
                _flags_name "${word%%=*}"
                if [[ ${_FLAG_KIND[$name]} == boolean ]]; then
                    [[ $word != *=* ]] || flags_wrong "--$name takes no value"
                    value=1
                elif [[ $word == *=* ]]; then
                    value=${word#*=}
                else
                    (($#)) || flags_wrong "$word needs a value"
                    value=$1
                    shift
                fi
                _flags_keep
                ;;
            *)
                ARGS+=("$word")
                if ((${#ARGS[@]} > words_before_command)); then
                    ARGS+=("$@")
                    break
                fi
                ;;
        esac
    done
    [[ -n ${FLAG[help]-} ]] || _flags_check_words
}

# Sets name to the long name of the flag that was typed.
_flags_name() {
    local typed=$1 known
    name=${typed#--}
    if [[ $typed != --* ]]; then
        if [[ $typed == -h ]]; then typed=--help name=help; fi
        name=${_FLAG_KIND[$typed]-$name}
    fi
    [[ -z ${_FLAG_KIND[$name]-} || $name == -* ]] || return 0
    known=("${!_FLAG_KIND[@]}")
    core_nearest "$name" "${known[@]}"
    local near=$REPLY
    core_show "$typed"
    die "$EXIT_USAGE" "unknown flag $REPLY${near:+: did you mean --$near?}" "$VIRT_PROGRAM $VIRT_VERB --help"
}

_flags_keep() {
    [[ -z ${FLAG[$name]+set} || ${_FLAG_KIND[$name]} != value ]] || flags_wrong "--$name is given twice"
    FLAG[$name]=$value
    FLAG_WORDS+=("--$name")
    [[ ${_FLAG_KIND[$name]} != boolean ]] || return 0
    # Handed on as a word of its own, it must not be taken for a flag there.
    core_show "$value"
    [[ $value != -* ]] || flags_wrong "--$name needs a value, not $REPLY"
    FLAG_WORDS+=("$value")
}

# Reads the usage line: which words there are, and how many must be given.
_flags_count() {
    local word words=()
    read -ra words <<<"${HEADER[0]#Usage: }"
    for word in "${words[@]:1}"; do
        case $word in
            '[--]' | '[OPTION…]') ;;
            '['*) most=$((most + 1)) ;;
            COMMAND…)
                words_before_command=${#word_names[@]}
                word_names+=(COMMAND)
                most=1000000
                ;;
            *)
                word_names+=("$word")
                most=$((most + 1))
                ;;
        esac
    done
}

_flags_check_words() {
    if ((${#ARGS[@]} < ${#word_names[@]})); then
        flags_wrong "${word_names[${#ARGS[@]}]} is missing"
    elif ((${#ARGS[@]} > most)); then
        core_show "${ARGS[most]}"
        flags_wrong "unexpected word $REPLY"
    fi
}

# A wrong command line: MESSAGE, and where the right one is written.
flags_wrong() {
    die "$EXIT_USAGE" "$1" "$VIRT_PROGRAM $VIRT_VERB --help"
}
