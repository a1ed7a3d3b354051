# shellcheck shell=bash
# Usage: help [VERB]
#
# Lists the verbs, or explains one.
#
# Examples:
#   help create

verb_help() {
    local verb=${1-}
    case $verb in
        '') _help_all ;;
        start) _help_verb run ;;
        info) _help_verb inspect ;;
        *)
            cli_load "$verb"
            _help_verb "$verb"
            ;;
    esac
}

_help_verb() {
    local line
    flags_read_header "$VIRT_ROOT/lib/verbs/$1.sh"
    printf 'Usage: %s %s\n' "$VIRT_PROGRAM" "${HEADER[0]#Usage: }"
    for line in "${HEADER[@]:1}"; do printf '%s\n' "$line"; done
}

_help_all() {
    local verb
    printf 'Usage: %s VERB …\n\n' "$VIRT_PROGRAM"
    for verb in "${BACKEND_VERBS[@]}"; do
        flags_read_header "$VIRT_ROOT/lib/verbs/$verb.sh"
        printf '  %-10s %s\n' "$verb" "${HEADER[2]%.}"
    done
    printf '\n%s help VERB explains one. Environments are in %s.\n' "$VIRT_PROGRAM" "$VIRT_BASE"
}
