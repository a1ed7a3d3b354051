# shellcheck shell=bash
# Usage: run NAME [OPTION…]
#
# Starts an environment, and returns when its server answers (also: start).
#
# A manifest edited since the last run is compiled first, and what it widens or narrows is shown.
#
#   --timeout SECONDS        give up if the server does not answer in time
#   --allow-degraded LIMIT…  run although this host cannot hold the limit: memory, cpu or pids
#   --strict-limits          run only if the kernel itself holds every limit
#
# Examples:
#   run dev
#   run dev --timeout 120

verb_run() {
    state_open "$1" 0
    [[ $STATE != running && $STATE != starting && $STATE != stopping ]] ||
        die "$EXIT_STATE" "'$1' is $STATE already" "$VIRT_PROGRAM status $1"
    run_start
}

# Starts the environment that is open.
run_start() {
    state_refuse_damaged
    [[ -z ${FLAG[timeout]-} || ${FLAG[timeout]} =~ ^[0-9]{1,6}$ ]] ||
        flags_wrong "--timeout is in seconds, not '${FLAG[timeout]}'"
    backend_run ${FLAG_WORDS[@]+"${FLAG_WORDS[@]}"}
    printf '%s is ready on %s port %s%s\n' "$ENV_NAME" "${FIELDS[address]}" "${FIELDS[port]}" \
        "${READY_MS:+ after $READY_MS ms}"
}
