#!/usr/bin/env bats
# What list and status say of directories made by hand, and how fast.
load helpers

# The state of an environment whose run/state has FIELDS…
state_with() {
    handmade dev "$@"
    state_of dev
}

@test "stopped: no supervisor's state; crashed: one whose process is gone" {
    [ "$(state_with)" = stopped ]
    [ "$(state_with status=running pid=999999999 start_time=1 "boot_id=$(boot_id)")" = crashed ]
}

@test "an exit that nobody asked for is a crash" {
    handmade dev
    for reason in stopped:stopped killed:stopped crashed:crashed memory:crashed failed:crashed; do
        printf 'reason=%s\n' "${reason%:*}" >"$BASE/dev/run/exit"
        [ "$(state_of dev)" = "${reason#*:}" ]
    done
}

@test "87 a state whose pid belongs to another process now is a crash, and that process is left alone" {
    sleep 60 3>&- &
    local other=$!
    # Its twin: with the right start time and boot, this process would be the supervisor.
    [ "$(state_with status=running pid=$other "start_time=$(start_time $other)" "boot_id=$(boot_id)")" = running ]
    rm "$BASE/dev/run/state"
    [ "$(state_with status=running pid=$other start_time=1 "boot_id=$(boot_id)")" = crashed ]
    run -0 sandbox stop dev
    run -0 sandbox destroy --yes dev
    kill -0 "$other"
    kill "$other"
}

@test "92 a state from before a reboot is a crash" {
    sleep 60 3>&- &
    local other=$!
    [ "$(state_with status=running pid=$other "start_time=$(start_time $other)" boot_id=1-2-3)" = crashed ]
    run -0 sandbox destroy --yes dev
    kill -0 "$other"
    kill "$other"
}

@test "damaged: no record, a foreign one, or no plan" {
    handmade dev
    rm "$BASE/dev/record"
    [ "$(state_of dev)" = damaged ]
    head -c 4096 /dev/urandom >"$BASE/dev/record"
    [ "$(state_of dev)" = damaged ]
    handmade dev
    rm "$BASE/dev/config/plan"
    [ "$(state_of dev)" = damaged ]
    for verb in run restart inspect url activate; do
        run -4 sandbox "$verb" dev
        [[ $output == *"'dev' is damaged"* ]]
        [[ $output == *"destroy dev"* ]]
    done
    run -0 sandbox status dev
    run -0 sandbox stop dev
    run -0 sandbox destroy --yes dev
}

@test "nothing to list is no error, and is said to people only" {
    run -0 --separate-stderr sandbox list
    [ -z "$output" ]
    [[ $stderr == *"no environments in "* ]]
    run -0 --separate-stderr sandbox list --json
    [ "$output" = '{"version": 1, "environments": []}' ]
    [ -z "$stderr" ]
}

@test "the table fits its widest word, and has no colours but on a terminal" {
    handmade a
    sleep 60 3>&- &
    local other=$!
    handmade a-rather-long-name-of-an-environment status=running pid=$other "start_time=$(start_time $other)" "boot_id=$(boot_id)"
    run -0 sandbox list
    [ "${#lines[@]}" -eq 3 ]
    [[ ${lines[1]} =~ ^a\ {37}postgres\ \ stopped ]]
    [[ ${lines[2]} =~ ^a-rather-long-name-of-an-environment\ \ postgres\ \ running ]]
    [[ $output != *$'\e'* ]]
    run -0 script -qec "$(printf '%q ' env TERM=xterm "$ROOT/wasm_style_sandbox.sh" list)" /dev/null
    [[ $output == *$'\e[32mrunning'* ]]
    run -0 script -qec "$(printf '%q ' env TERM=xterm NO_COLOR=1 "$ROOT/wasm_style_sandbox.sh" list)" /dev/null
    [[ $output != *$'\e'* ]]
    kill "$other"
}

@test "94 hostile values in a record are escaped in the table and in JSON" {
    handmade dev
    printf 'version=\e[31m"x\\y\x01\n' >>"$BASE/dev/record"
    run -0 sandbox list
    [[ $output != *$'\e'* ]]
    [ "$(sandbox list --json | json "repr(answer['environments'][0]['engine_version'])")" = "'\\x1b[31m\"x\\\\y\\x01'" ]
    run -0 sandbox status dev
    [[ $output != *$'\e'* ]]
}

@test "status and url have JSON with a version" {
    handmade dev
    [ "$(sandbox status dev --json | json "answer['version'], answer['state'], answer['port'], answer['pid']")" = "1 stopped 5999 None" ]
    [ "$(sandbox url dev --json | json "answer['version'], answer['url']")" = "1 postgresql://u:p@127.0.0.1:5999/d" ]
    [ "$(sandbox url dev)" = postgresql://u:p@127.0.0.1:5999/d ]
}

@test "an environment that may not be read is listed as private; root reads all" {
    handmade dev
    chmod 000 "$BASE/dev"
    if [[ $EUID -eq 0 ]]; then
        [ "$(state_of dev)" = stopped ]
    else
        [ "$(state_of dev)" = private ]
    fi
}

@test "logs shows the last lines, follows a rotation, and says when there are none" {
    handmade dev
    run -4 sandbox logs dev
    [[ $output == *"has written no log yet"* ]]
    seq 100 >"$BASE/dev/logs/service.log"
    run -0 sandbox logs dev
    [ "${#lines[@]}" -eq 50 ]
    "$ROOT/wasm_style_sandbox.sh" logs dev --follow --lines 1 >"$BATS_TEST_TMPDIR/followed" 3>&- &
    local follower=$!
    until [[ -s $BATS_TEST_TMPDIR/followed ]]; do sleep 0.1; done
    mv "$BASE/dev/logs/service.log" "$BASE/dev/logs/service.log.1"
    printf 'after\n' >"$BASE/dev/logs/service.log"
    for _ in {1..40}; do
        ! grep -q after "$BATS_TEST_TMPDIR/followed" || break
        sleep 0.1
    done
    kill "$follower"
    [ "$(cat "$BATS_TEST_TMPDIR/followed")" = $'100\nafter' ]
}

@test "list and help start no program at all" {
    handmade dev
    for words in list "list --json" help "help run" --version; do
        # shellcheck disable=SC2086 # words are words
        run -0 env PATH=/nonexistent "$BASH" "$ROOT/wasm_style_sandbox.sh" $words
    done
}

@test "200 environments are listed within 200 ms" {
    handmade e1
    for i in {2..200}; do cp -r "$BASE/e1" "$BASE/e$i"; done
    local began best=999999 took
    for _ in {1..5}; do
        began=${EPOCHREALTIME/./}
        sandbox list >"$BATS_TEST_TMPDIR/list"
        took=$((${EPOCHREALTIME/./} - began))
        if ((took < best)); then best=$took; fi
    done
    [ "$(wc -l <"$BATS_TEST_TMPDIR/list")" -eq 201 ]
    printf 'best of five: %s us\n' "$best"
    ((best < 200000))
    rm -rf "$BASE"/e*
}
