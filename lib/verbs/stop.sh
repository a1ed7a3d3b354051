# shellcheck shell=bash
# Usage: stop NAME [OPTION…]
#
# Stops an environment's server; its data stay.
#
#   --timeout SECONDS        how long it may take to stop by itself before it is killed
#
# Examples:
#   stop dev

verb_stop() {
    state_open "$1" 10
    [[ -z ${FLAG[timeout]-} || ${FLAG[timeout]} =~ ^[0-9]{1,6}$ ]] ||
        flags_wrong "--timeout is in seconds, not '${FLAG[timeout]}'"
    backend_stop ${FLAG_WORDS[@]+"${FLAG_WORDS[@]}"}
    case $STOPPED in
        already) printf '%s is stopped already\n' "$1" ;;
        killed) printf '%s is stopped: it had to be killed\n' "$1" ;;
        *) printf '%s is stopped\n' "$1" ;;
    esac
}
