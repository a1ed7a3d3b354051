# shellcheck shell=bash
# Usage: status NAME [OPTION…]
#
# Shows how an environment is: its state, port, memory and processes.
#
#   --json                   as JSON
#
# Examples:
#   status dev --json

verb_status() {
    state_find "$1"
    backend_status
    if [[ -n ${FLAG[json]-} ]]; then
        output_object version: 1 name "$1" engine "${FIELDS[engine]-}" state "$STATE" \
            address "${FIELDS[address]-}" port# "${FIELDS[port]-}" pid# "${FIELDS[pid]-}" \
            since# "${FIELDS[since]-}" ready_ms# "${FIELDS[ready_ms]-}" \
            memory# "${FIELDS[memory]-}" memory_peak# "${FIELDS[memory_peak]-}" \
            memory_limit# "${FIELDS[memory_limit]-}" oom_kills# "${FIELDS[oom_kills]-}" \
            pids# "${FIELDS[pids]-}" cpu_seconds# "${FIELDS[cpu_seconds]-}" \
            ended "${FIELDS[reason]-}" message "${FIELDS[message]-}"
        printf '%s\n' "$REPLY"
        return 0
    fi
    local since memory peak
    output_time "${FIELDS[since]-}"
    since=$REPLY
    output_mebibytes "${FIELDS[memory]-}"
    memory=$REPLY
    output_mebibytes "${FIELDS[memory_peak]-}"
    peak=$REPLY
    output_fields name "$1" engine "${FIELDS[engine]-}" state "$STATE" address "${FIELDS[address]-}" \
        port "${FIELDS[port]-}" since "$since" process "${FIELDS[pid]-}" \
        'ready after' "${FIELDS[ready_ms]:+${FIELDS[ready_ms]} ms}" memory "$memory" 'memory peak' "$peak" \
        processes "${FIELDS[pids]-}" ended "${FIELDS[reason]-}" message "${FIELDS[message]-}"
}
