# shellcheck shell=bash
# Usage: destroy NAME [OPTION…]
#
# Stops an environment and deletes it with all its data.
#
#   -y, --yes                do not ask
#
# Examples:
#   destroy --yes dev

verb_destroy() {
    local answer
    state_find "$1"
    if [[ -z ${FLAG[yes]-} ]]; then
        [[ -t 0 ]] ||
            die "$EXIT_STATE" "refusing to delete '$1' unasked: no terminal to ask on" "$VIRT_PROGRAM destroy --yes $1"
        read -rp "delete '$1' and all its data? type its name: " answer || answer=''
        [[ $answer == "$1" ]] || die "$EXIT_STATE" "'$1' is kept" "$VIRT_PROGRAM destroy --yes $1"
    fi
    state_open "$1" 10
    backend_stop
    state_remove
    printf '%s is destroyed\n' "$1"
}
