#!/usr/bin/env bats
# The house rules between verbs, state and backends (lib/backends/CONTRACT.md).
load helpers

# The words matching PATTERN in FILES, comments left out, each once.
words_in() {
    local pattern=$1
    shift
    sed 's/^[[:space:]]*#.*//' "$@" | grep -oE "$pattern" | sort -u
}

backend_verbs() (
    VIRT_ROOT=$ROOT
    source "$ROOT/lib/core.sh"
    source "$ROOT/lib/backends/sandbox.sh"
    printf '%s\n' "${BACKEND_VERBS[@]}" | sort
)

@test "every verb that the backend names has a file with a usage line, a summary and its function" {
    for verb in $(backend_verbs); do
        file=$ROOT/lib/verbs/$verb.sh
        [[ $(sed -n 2p "$file") == "# Usage: $verb"* ]]
        [[ $(sed -n 4p "$file") == "# "[A-Z]*. ]]
        grep -q "^verb_$verb() {" "$file"
    done
    # And no file is left unnamed.
    [ "$(backend_verbs)" = "$(cd "$ROOT/lib/verbs" && printf '%s\n' *.sh | sed 's/\.sh$//' | sort)" ]
}

@test "verbs call only operations of the contract, and the backend defines each of them" {
    contract=$(grep -oE '^\| `backend_[a-z_]+' "$ROOT/lib/backends/CONTRACT.md" | grep -oE 'backend_[a-z_]+' | sort)
    called=$(words_in 'backend_[a-z_]+' "$ROOT"/lib/verbs/*.sh "$ROOT"/lib/*.sh)
    [ "$(comm -23 <(printf '%s\n' "$called") <(printf '%s\n' "$contract"))" = "" ]
    defined=$(grep -ohE '^backend_[a-z_]+' "$ROOT/lib/backends/sandbox.sh" | sort)
    [ "$defined" = "$contract" ]
}

@test "a backend parses no flags and asks no questions" {
    run -1 grep -nE 'flags_|ARGS|read -rp|Usage' "$ROOT"/lib/backends/*.sh
}

@test "only state.sh renames and deletes environments" {
    run -1 grep -nE 'ENV_DIR.*\b(rm|mv)\b|\b(rm|mv)\b.*ENV_DIR' "$ROOT"/lib/verbs/*.sh "$ROOT"/lib/backends/*.sh
}

@test "every verb that reads has --json" {
    for verb in list status inspect url doctor; do
        grep -qE '^#   --json ' "$ROOT/lib/verbs/$verb.sh"
    done
}
