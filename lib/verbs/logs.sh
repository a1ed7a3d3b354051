# shellcheck shell=bash
# Usage: logs NAME [OPTION…]
#
# Shows the last lines that a server wrote.
#
#   -f, --follow             go on showing new lines, until Ctrl-C
#   -n, --lines NUMBER       how many of the lines there are (default 50)
#
# Examples:
#   logs dev -f

verb_logs() {
    local lines=${FLAG[lines]-50} log
    [[ $lines =~ ^[0-9]{1,9}$ ]] || flags_wrong "--lines is a number, not '$lines'"
    state_find "$1"
    log=$ENV_DIR/logs/service.log
    if [[ -n ${FLAG[follow]-} ]]; then
        # By name: the log is rotated. Silent about a file that is not there yet.
        _logs_show -F -n "$lines" -- "$log" 2>/dev/null
    else
        [[ -f $log ]] || die "$EXIT_STATE" "'$1' has written no log yet" "$VIRT_PROGRAM run $1"
        _logs_show -n "$lines" -- "$log"
    fi
}

# The guest wrote the log: on a terminal its control bytes are left out.
_logs_show() {
    local tail=("${AS_OWNER[@]}" tail "$@")
    if [[ -t 1 ]]; then
        # C0 and DEL, and C1 as UTF-8 has it (ECMA-48).
        "${tail[@]}" | LC_ALL=C sed -u -e $'s/[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]//g' -e $'s/\xc2[\x80-\x9f]//g'
    else
        # In our place: whoever ends us ends it. `command` is no program.
        [[ ${tail[0]} != command ]] || tail=("${tail[@]:1}")
        exec "${tail[@]}"
    fi
}
