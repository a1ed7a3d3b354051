# shellcheck shell=bash
# Usage: list [OPTION…]
#
# Lists the environments and their states.
#
#   --json                   as JSON
#
# Examples:
#   list
#   VIRT_HOME=~/project list --json

verb_list() {
    local name all='' rows=()
    record_names
    for name in ${ENVIRONMENTS[@]+"${ENVIRONMENTS[@]}"}; do
        record_read "$VIRT_BASE/$name"
        if [[ -n ${FLAG[json]-} ]]; then
            output_object name "$name" engine "${FIELDS[engine]-}" state "$STATE" \
                address "${FIELDS[address]-}" port# "${FIELDS[port]-}" engine_version "${FIELDS[version]-}" \
                layer "${FIELDS[layer]-}" created# "${FIELDS[created]-}" path "$VIRT_BASE/$name"
            all+=",$REPLY"
        else
            output_time "${FIELDS[created]-}"
            rows+=("$name" "${FIELDS[engine]--}" "$STATE" "${FIELDS[port]--}" "${FIELDS[version]--}"
                "${FIELDS[layer]--}" "${REPLY:--}")
        fi
    done
    if [[ -n ${FLAG[json]-} ]]; then
        printf '{"version": 1, "environments": [%s]}\n' "${all#,}"
    elif ((${#rows[@]} == 0)); then
        say "no environments in $VIRT_BASE"
    else
        output_table 7 NAME ENGINE STATE PORT VERSION LAYER CREATED "${rows[@]}"
    fi
}
