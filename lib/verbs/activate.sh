# shellcheck shell=bash
# Usage: activate NAME
#
# Prints the line that activates an environment in your shell: source <(… activate NAME).
#
# In a shell without <(…): eval "$(… activate NAME)". `deactivate` undoes it.
#
# Examples:
#   activate dev

verb_activate() {
    local dir
    state_find "$1"
    state_refuse_damaged
    # In single quotes every byte but the quote itself is plain, in every shell.
    dir="'${ENV_DIR//\'/\'\\\'\'}'"
    printf "VIRT_ENV_DIR=%s; . %s/bin/activate\n" "$dir" "$dir"
}
