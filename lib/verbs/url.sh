# shellcheck shell=bash
# Usage: url NAME [OPTION…]
#
# Prints the address of an environment's database, with its password.
#
#   --json                   as JSON
#
# Examples:
#   psql "$(url dev)"

verb_url() {
    state_find "$1"
    state_refuse_damaged
    core_fields "$ENV_DIR/env"
    [[ -n ${FIELDS[DATABASE_URL]-} ]] ||
        die "$EXIT_STATE" "$ENV_DIR/env has no DATABASE_URL" "$VIRT_PROGRAM restart $1"
    if [[ -n ${FLAG[json]-} ]]; then
        output_object version: 1 name "$1" url "${FIELDS[DATABASE_URL]}"
        printf '%s\n' "$REPLY"
    else
        printf '%s\n' "${FIELDS[DATABASE_URL]}"
    fi
}
