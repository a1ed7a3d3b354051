#!/usr/bin/env bats
# Whose files and processes they are: plain root, sudo, an ordinary user, a stranger.
load helpers

# Two accounts that need no entry anywhere.
alice=61001 mallory=61002

setup() {
    needs_root
    setup_home
    # A home of alice's own; root's is VIRT_HOME.
    hers=$BATS_TEST_TMPDIR/alice
    mkdir "$hers"
    chown "$alice:$alice" "$hers"
}

teardown() {
    [[ -n ${hers-} ]] || return 0
    local home dir
    for home in "$VIRT_HOME" "$hers"; do
        for dir in "$home"/.sandboxes/*/; do
            [[ ! -d $dir ]] || VIRT_HOME=$home "$ROOT/wasm_style_sandbox.sh" destroy --yes "$(basename "$dir")"
        done
    done
    nothing_runs
}

as() {
    setpriv "--reuid=$1" "--regid=$1" --clear-groups env HOME=/nonexistent VIRT_HOME="$hers" "$ROOT/wasm_style_sandbox.sh" "${@:2}"
}

as_sudo() {
    SUDO_UID=$alice SUDO_GID=$alice VIRT_HOME=$hers "$ROOT/wasm_style_sandbox.sh" "$@"
}

# The uids of the processes of the sandbox that runs in DIR, each once.
uids_running() {
    local pid1 process
    pid1=$(sed -n 's/^pid1=//p' "$1/run/state")
    for process in /proc/[0-9]*; do
        if [[ $(readlink "$process/ns/pid") == "$(readlink "/proc/$pid1/ns/pid")" ]]; then
            sed -n 's/^Uid:\t\([0-9]*\)\t.*/\1/p' "$process/status"
        fi
    done | sort -u
}

@test "102 plain root: the files and the processes belong to an unprivileged uid that is recorded" {
    sandbox create postgres dev auto --ephemeral
    sandbox run dev
    [ "$(uids_running "$BASE/dev")" = 60913 ]
    [ "$(sed -n 's/^uid=//p' "$BASE/dev/record")" = 60913 ]
    [ -z "$(find "$BASE/dev" ! -uid 60913)" ]
    [ "$(stat -c %a "$BASE/dev")" = 700 ]
    sandbox stop dev
    [ -z "$(find "$BASE/dev" ! -uid 60913)" ]
}

@test "VIRT_GUEST_UID names another uid, and never root" {
    new_home
    for uid in 0 -1 root; do
        VIRT_GUEST_UID=$uid run -2 sandbox create postgres dev auto
        [[ $output == *"VIRT_GUEST_UID is not a user id: $uid"* ]]
    done
    VIRT_GUEST_UID=60999 sandbox create postgres dev auto --ephemeral
    sandbox run dev
    [ "$(uids_running "$BASE/dev")" = 60999 ]
    sandbox destroy --yes dev
}

@test "sudo: everything belongs to the caller, who then needs sudo no more" {
    as_sudo create postgres dev auto --ephemeral
    as_sudo run dev
    [ -z "$(find "$hers" ! -uid "$alice")" ]
    [ "$(uids_running "$hers/.sandboxes/dev")" = "$alice" ]
    as "$alice" status dev
    [ "$(as "$alice" exec dev psql -XAtc 'select 1')" = 1 ]
    as "$alice" inspect dev
    as "$alice" stop dev
    as "$alice" run dev
    as_sudo restart dev
    [ -z "$(find "$hers" ! -uid "$alice")" ]
    as "$alice" destroy --yes dev
}

@test "root acts in a user's directory as that user, and the user goes on" {
    as "$alice" create postgres dev auto --ephemeral
    VIRT_HOME=$hers sandbox run dev
    VIRT_HOME=$hers sandbox create postgres two auto
    [ -z "$(find "$hers" ! -uid "$alice")" ]
    as "$alice" destroy --yes two
    as "$alice" destroy --yes dev
}

@test "root does not follow a user's links when it deletes" {
    as "$alice" create postgres dev auto --ephemeral
    mkdir "$BATS_TEST_TMPDIR/precious"
    touch "$BATS_TEST_TMPDIR/precious/file"
    rm -rf "$hers/.sandboxes/dev/work"
    ln -s "$BATS_TEST_TMPDIR/precious" "$hers/.sandboxes/dev/work"
    chmod 700 "$BATS_TEST_TMPDIR/precious"
    VIRT_HOME=$hers sandbox destroy --yes dev
    [ -f "$BATS_TEST_TMPDIR/precious/file" ]
    [ ! -e "$hers/.sandboxes/dev" ]
}

@test "100 an environment of another owner is refused" {
    as "$alice" create postgres dev auto --ephemeral
    as "$alice" run dev
    for words in "run dev" "stop dev" "status dev" "destroy --yes dev" "inspect dev" "url dev" "restart dev"; do
        # shellcheck disable=SC2086 # words are words
        run -4 as "$mallory" $words
        [[ $output == *"'dev' belongs to uid $alice, and you are uid $mallory"* ]]
    done
    run -125 as "$mallory" exec dev true
    run -4 as "$mallory" create postgres two auto
    [[ $output == *"belongs to uid $alice"* ]]
    as "$alice" stop dev
    # A directory that was given away is not run by root either.
    chown "$mallory" "$hers/.sandboxes/dev"
    VIRT_HOME=$hers run -4 sandbox run dev
    [[ $output == *"belongs to uid $mallory, but its record says another"* ]]
    chown "$alice" "$hers/.sandboxes/dev"
}
