#!/usr/bin/env bats
# Activation in every shell of this machine. What a shell sees is compared with what it was.
# shellcheck disable=SC2016 # what is in single quotes is for an inner shell, or a name
load helpers

setup() {
    setup_home
    handmade dev
    handmade other
    secret=$'a\'b"c$(touch pwned)`touch pwned`\\n $HOME ;&|<>*?~ \t\x80'
    printf '%s\n' DB_HOST=127.0.0.1 "DB_PASSWORD=$secret" PGHOST=x=y EMPTY= \
        'bad-key=1' 'lower=1' 'PATH=/evil' '1X=1' '=1' 'no pair' >"$BASE/dev/env"
    printf '%s\n' DB_HOST=192.0.2.1 >"$BASE/other/env"
}

# Runs SCRIPT in every shell that there is. The shells which cannot find a sourced file's path
# are given VIRT_ENV_DIR, as the verb `activate` does.
in_every_shell() {
    local shell shells=(bash "bash --posix") tried=0
    for shell in dash zsh ksh93 mksh "busybox sh"; do
        ! command -v "${shell%% *}" >/dev/null || shells+=("$shell")
    done
    {
        printf '%s\n' 'set -eu' 'activate() { VIRT_ENV_DIR=$1; . "$1/activate"; }' \
            'is() { [ "$1" = "$2" ] || { printf "%s is not %s\n" "$1" "$2"; exit 9; }; }'
        cat
    } >"$BATS_TEST_TMPDIR/script"
    for shell in "${shells[@]}"; do
        printf 'in %s:\n' "$shell"
        # shellcheck disable=SC2086 # a shell and its flag
        env -u PGHOST -u PS1 SECRET="$secret" $shell "$BATS_TEST_TMPDIR/script"
        tried=$((tried + 1))
    done
    ((tried > 1))
    [ ! -e pwned ]
}

@test "every value arrives as it is, exported, in every shell" {
    in_every_shell <<'SHELL'
activate .sandboxes/dev
is "$DB_PASSWORD" "$SECRET"
is "$PGHOST" x=y
is "${EMPTY-unset}" ''
sh -c '[ "$DB_PASSWORD" = "$SECRET" ] && [ "${EMPTY+set}" = set ]'
is "${lower-unset}" unset
SHELL
}

@test "deactivate restores unset, empty, set and exported variables exactly" {
    in_every_shell <<'SHELL'
unset PGHOST
DB_HOST='an old one'
export EMPTY='exported before'
DB_PASSWORD=
was=$PATH
activate .sandboxes/dev
case $PATH in "$was:"*.sandboxes/dev/bin) ;; *) is "$PATH" ours ;; esac
deactivate
is "$PATH" "$was"
is "${PGHOST-unset}" unset
is "$DB_HOST" 'an old one'
is "${DB_PASSWORD-unset}" ''
is "$(sh -c 'echo "${EMPTY-} ${DB_HOST-unset} ${DB_PASSWORD-unset}"')" 'exported before unset unset'
is "$(set | grep -ic '^_virt_')" 0
! command -V deactivate 2>/dev/null | grep -q function
SHELL
}

@test "what the user did to PATH in between stays" {
    in_every_shell <<'SHELL'
was=$PATH
activate .sandboxes/dev
PATH=/mine:$PATH:/later
deactivate
is "$PATH" "/mine:$was:/later"
SHELL
}

@test "the prompt has the name, is put back, and is not exported" {
    in_every_shell <<'SHELL'
PS1='old$ '
activate .sandboxes/dev
is "$PS1" '(dev) old$ '
is "$(env | grep -c '^PS1=')" 0
deactivate
is "$PS1" 'old$ '
VIRT_DISABLE_PROMPT=1
activate .sandboxes/dev
is "$PS1" 'old$ '
SHELL
}

@test "a second activation first undoes the one before" {
    in_every_shell <<'SHELL'
PS1='$ '
DB_HOST=mine
activate .sandboxes/dev
activate .sandboxes/other
is "$DB_HOST" 192.0.2.1
is "${PGHOST-unset}" unset
is "$PS1" '(other) $ '
deactivate
is "$DB_HOST" mine
is "$PS1" '$ '
SHELL
}

@test "bash and zsh find the environment from the file's own path, beside env or below it" {
    for shell in bash zsh; do
        command -v "$shell" >/dev/null || continue
        for file in .sandboxes/dev/activate ./.sandboxes/dev/bin/activate "$BASE/dev/activate"; do
            run -0 "$shell" -c 'cd "$1" && . "$2" && cd / && printf "%s %s\n" "$DB_HOST" "$PATH"' _ "$VIRT_HOME" "$file"
            [[ $output == 127.0.0.1\ *":$BASE/dev/bin" || $output == 127.0.0.1\ *":$VIRT_HOME/./.sandboxes/dev/bin" ]]
        done
        (cd "$BASE/dev/bin" && "$shell" -c '. ./activate && [ "$DB_HOST" = 127.0.0.1 ]')
        (cd "$BASE/dev" && "$shell" -c '. ./activate && [ "$DB_HOST" = 127.0.0.1 ]')
    done
}

@test "executed instead of sourced, it says so and ends with 33" {
    for shell in bash dash zsh; do
        command -v "$shell" >/dev/null || continue
        run -33 env -u VIRT_ENV_DIR "$shell" "$BASE/dev/activate"
        [[ $output == *"this file is for sourcing"* ]]
        run -33 env VIRT_ENV_DIR="$BASE/dev" "$shell" "$BASE/dev/bin/activate"
    done
}

@test "an environment that is gone is said, and nothing is changed" {
    rm "$BASE/dev/env"
    run -4 bash -c 'p=$PATH; . "$1"; code=$?; [ "$p" = "$PATH" ] && exit $code' _ "$BASE/dev/activate"
    [[ $output == *"activate: cannot read "* ]]
}

@test "the verb prints one line for source <(…), quoted for any path" {
    run -0 sandbox activate dev
    [ "${#lines[@]}" -eq 1 ]
    run -0 bash -c 'source <("$1" activate dev) && cd / && printf %s "$DB_PASSWORD"' _ "$ROOT/wasm_style_sandbox.sh"
    [ "$output" = "$secret" ]
    run -0 sh -c 'eval "$("$1" activate dev)" && printf %s "$DB_PASSWORD"' _ "$ROOT/wasm_style_sandbox.sh"
    [ "$output" = "$secret" ]
}
