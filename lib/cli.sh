# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is read by the files that are sourced with it
# From the command line to a verb: finds its file, parses its flags, runs it. Everything that
# an entry needs is sourced here; lib/verbs and the rest of a backend only when used.

# Bytes, not characters: names and states are ASCII, and ranges such as [a-z] mean what they say.
LC_ALL=C

# shellcheck source=lib/core.sh
source "$VIRT_ROOT/lib/core.sh"
# shellcheck source=lib/flags.sh
source "$VIRT_ROOT/lib/flags.sh"
# shellcheck source=lib/owner.sh
source "$VIRT_ROOT/lib/owner.sh"
# shellcheck source=lib/record.sh
source "$VIRT_ROOT/lib/record.sh"
# shellcheck source=lib/state.sh
source "$VIRT_ROOT/lib/state.sh"
# shellcheck source=lib/output.sh
source "$VIRT_ROOT/lib/output.sh"

# The whole vocabulary, so that a verb which a backend has not is refused by its name.
CLI_VERBS=(create run stop restart status list inspect logs exec activate url destroy
    snapshot restore reset clone grant revoke denials verify doctor help)

cli_main() {
    local verb=${1-help}
    (($# == 0)) || shift
    printf -v VIRT_PROGRAM %q "$0"
    VIRT_VERB=$verb
    VIRT_BASE=${VIRT_HOME:-$PWD}/$VIRT_FOLDER
    [[ $VIRT_BASE == /* ]] || VIRT_BASE=$PWD/$VIRT_BASE
    # The control plane words its errors as we do.
    export VIRT_PROGRAM VIRT_VERB
    # shellcheck source=lib/backends/sandbox.sh
    source "$VIRT_ROOT/lib/backends/$VIRT_BACKEND.sh"

    case $verb in
        start) verb=run ;;
        info) verb=inspect ;;
        -h | --help) verb=help ;;
        --version) verb=version ;;
    esac
    cli_load "$verb"
    flags_read_header "$VIRT_ROOT/lib/verbs/$verb.sh"
    flags_parse "$@"
    if [[ -n ${FLAG[help]-} ]]; then
        cli_load help
        verb_help "$verb"
    else
        "verb_$verb" ${ARGS[@]+"${ARGS[@]}"}
    fi
}

# Sources a verb's file, which defines verb_VERB, or refuses a word that is none.
cli_load() {
    local known
    for known in "${BACKEND_VERBS[@]}"; do
        if [[ $1 == "$known" ]]; then
            # shellcheck source=/dev/null # checked as files of their own
            source "$VIRT_ROOT/lib/verbs/$1.sh"
            return 0
        fi
    done
    VIRT_VERB=help
    for known in "${CLI_VERBS[@]}"; do
        [[ $1 != "$known" ]] || die "$EXIT_STATE" "the $VIRT_BACKEND backend has no verb '$1'" "$VIRT_PROGRAM help"
    done
    core_nearest "$1" "${BACKEND_VERBS[@]}" start info
    local near=$REPLY
    core_show "$1"
    die "$EXIT_USAGE" "unknown verb $REPLY${near:+: did you mean $near?}" "$VIRT_PROGRAM ${near:-help}"
}

# Sets ENGINE to the name of the engine that WORD names: a card's name, or an alias of it.
cli_engine() {
    local card alias engines=()
    for card in "$VIRT_ROOT"/templates/engines/*/engine.env; do
        FIELDS=()
        core_fields "$card"
        engines+=("${FIELDS[name]-}")
        for alias in ${FIELDS[name]-} ${FIELDS[aliases]-}; do
            if [[ $1 == "$alias" ]]; then
                ENGINE=${FIELDS[name]}
                return 0
            fi
        done
    done
    core_nearest "$1" "${engines[@]}"
    local near=$REPLY list
    printf -v list ', %s' "${engines[@]}"
    core_show "$1"
    die "$EXIT_USAGE" "unknown engine $REPLY; the engines are: ${list#, }" \
        "$VIRT_PROGRAM create ${near:-${engines[0]}} NAME"
}
