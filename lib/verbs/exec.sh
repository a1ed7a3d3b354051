# shellcheck shell=bash
# Usage: exec NAME [OPTION…] [--] COMMAND…
#
# Runs a command inside a running environment, under its filters, grants and limits.
#
# Its exit code is the command's. Failures of the toolkit itself are 125, a command that cannot
# be run 126, one that is not there 127.
#
#   --env NAME=VALUE…        a variable of the command
#
# Examples:
#   exec dev -- psql -c 'select version()'
#   exec dev bash

verb_exec() {
    # shellcheck disable=SC2034 # read by die
    VIRT_EXIT=125
    state_find "$1"
    [[ $STATE == running ]] || die "$EXIT_STATE" "'$1' is not running: it is $STATE" "$VIRT_PROGRAM run $1"
    backend_exec ${FLAG_WORDS[@]+"${FLAG_WORDS[@]}"} -- "${@:2}"
}
