# shellcheck shell=bash
# Usage: version
#
# Prints the toolkit's version.

verb_version() {
    printf '%s\n' "$VIRT_VERSION"
}
