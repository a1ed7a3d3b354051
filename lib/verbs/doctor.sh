# shellcheck shell=bash
# Usage: doctor [OPTION…]
#
# Says what this host can do, and the command that mends what it cannot.
#
#   --json                   as JSON
#
# Examples:
#   doctor

verb_doctor() {
    backend_doctor ${FLAG_WORDS[@]+"${FLAG_WORDS[@]}"}
}
