# shellcheck shell=bash
# Usage: inspect NAME [OPTION…]
#
# Shows what an environment is granted and denied, and what enforces it (also: info).
#
#   --json                   as JSON
#
# Examples:
#   inspect dev

verb_inspect() {
    state_find "$1"
    state_refuse_damaged
    backend_inspect ${FLAG_WORDS[@]+"${FLAG_WORDS[@]}"}
}
