#!/usr/bin/env bats
# What goes wrong: two at once, killed at any moment, damaged and hostile directories. After
# each test nothing runs and nothing is half made (teardown).
load helpers

# Starts the toolkit in the background, in a process group of its own: sets STARTED.
start() {
    setsid -w "$ROOT/wasm_style_sandbox.sh" "$@" >"$BATS_TEST_TMPDIR/started" 2>&1 3>&- &
    STARTED=$!
}

# As start, but a Ctrl-C reaches it: a shell's background jobs ignore SIGINT, a terminal's
# foreground does not.
start_in_foreground() {
    python3 -c '
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.setsid()
os.execv(sys.argv[1], sys.argv[1:])' "$ROOT/wasm_style_sandbox.sh" "$@" 3>&- &
    STARTED=$!
}

# Waits for STARTED; its exit code is CODE.
finish() {
    CODE=0
    wait "$STARTED" || CODE=$?
}

# The server really answers.
answers() {
    # shellcheck disable=SC2016 # for the inner shell
    [ "$(bash -c 'source "$1/activate" && psql -XAtc "select 1"' _ "$BASE/$1")" = 1 ]
}

@test "90 a double create: one wins, the other says that the name is taken" {
    start create postgres dev auto
    run sandbox create postgres dev auto
    local ours=$status said=$output
    finish
    said+=$(cat "$BATS_TEST_TMPDIR/started")
    [ $((ours + CODE)) -eq 4 ]
    [[ $said == *"'dev' exists already"* ]]
    sandbox run dev
    answers dev
}

@test "two creates that race for one template both succeed" {
    new_home
    start create postgres one auto
    run -0 sandbox create postgres two auto
    finish
    [ "$CODE" -eq 0 ]
    [ "$(compgen -G "$BASE/.templates/*" | wc -l)" -eq 1 ]
    sandbox run one
    sandbox run two
    answers one
    answers two
}

@test "89 two runs at once: one wins, the other says busy or running" {
    sandbox create postgres dev auto --ephemeral
    start run dev
    run sandbox run dev
    local ours=$status said=$output
    finish
    said+=$(cat "$BATS_TEST_TMPDIR/started")
    [ $((ours + CODE)) -eq 4 ]
    [[ $said == *"is busy"* || $said == *"is running already"* || $said == *"is starting already"* ]]
    answers dev
}

@test "90 destroy during run waits its turn, a second destroy finds nothing" {
    sandbox create postgres dev auto --ephemeral
    start run dev
    run -0 sandbox destroy --yes dev
    finish
    [ ! -e "$BASE/dev" ]
    run -3 sandbox destroy --yes dev
    [[ $output == *"no environment 'dev'"* ]]
}

@test "90 two destroys at once: both end, one of them with its work done" {
    sandbox create postgres dev auto --ephemeral
    sandbox run dev
    start destroy --yes dev
    run sandbox destroy --yes dev
    finish
    [ $((status + CODE)) -eq 3 ]
    [ ! -e "$BASE/dev" ]
}

@test "a lock that is held is busy for run, and waited for by stop" {
    handmade dev
    exec 8<"$BASE/dev"
    flock 8
    run -4 sandbox run dev
    [[ $output == *"'dev' is busy: another command is changing it"* ]]
    (sleep 1 && exec flock -u 8) 3>&- &
    local began=$SECONDS
    run -0 sandbox stop dev
    ((SECONDS - began < 9))
    exec 8<&-
}

@test "kill -9 of create at any moment leaves no half environment, and the next create works" {
    sandbox create postgres warm auto
    for delay in 0.01 0.05 0.1 0.15 0.2 0.25 0.3; do
        start create postgres dev auto
        sleep "$delay"
        kill -KILL -- "-$STARTED" 2>/dev/null || true
        kill -KILL "$STARTED" 2>/dev/null || true
        wait "$STARTED" || true
        case $(state_of dev 2>/dev/null) in
            stopped) ;;
            '') run -0 sandbox create postgres dev auto ;;
            *) false ;;
        esac
        sandbox run dev
        answers dev
        sandbox destroy --yes dev
    done
}

@test "kill -9 of the create that makes the template leaves what the next create sweeps" {
    new_home
    for delay in 0.3 0.6 0.9; do
        start create postgres dev auto
        sleep "$delay"
        pkill -KILL -s "$STARTED" || true
        wait "$STARTED" || true
        nothing_runs
    done
    [ ! -e "$BASE/dev" ] || sandbox destroy --yes dev
    run -0 sandbox create postgres dev auto
    nothing_is_half_made
    sandbox run dev
    answers dev
}

@test "Ctrl-C and TERM during create leave nothing" {
    new_home
    for signal in INT TERM; do
        start_in_foreground create postgres dev auto
        # Into the longest part of it: while the template is being made.
        for _ in {1..500}; do
            ! compgen -G "$BASE/.templates/.new.*/init.0" >/dev/null || break
            sleep 0.01
        done
        kill "-$signal" -- "-$STARTED"
        finish
        [ "$CODE" -ne 0 ]
        [ ! -e "$BASE/dev" ]
        nothing_is_half_made
        nothing_runs
    done
    run -0 sandbox create postgres dev auto
}

@test "kill -9 of run at any moment: nothing is left, or a server that stop ends" {
    sandbox create postgres dev auto --ephemeral
    for delay in 0.005 0.02 0.04 0.06 0.08 0.1; do
        start run dev
        sleep "$delay"
        kill -KILL -- "-$STARTED" 2>/dev/null || true
        wait "$STARTED" || true
        # The lock is free as soon as whoever held it has ended.
        run -0 sandbox stop dev
        nothing_runs
        run -0 sandbox run dev
        answers dev
        sandbox stop dev
    done
}

@test "82 kill -9 of the supervisor: crashed, and everything works again" {
    sandbox create postgres dev auto
    sandbox run dev
    kill -KILL "$(sed -n 's/^pid=//p' "$BASE/dev/run/state")"
    nothing_runs
    [ "$(state_of dev)" = crashed ]
    run -0 sandbox run dev
    answers dev
    kill -KILL "$(sed -n 's/^pid=//p' "$BASE/dev/run/state")"
    run -0 sandbox destroy --yes dev
}

@test "83 a supervisor stopped by SIGSTOP can be destroyed" {
    sandbox create postgres dev auto --ephemeral
    sandbox run dev
    kill -STOP "$(sed -n 's/^pid=//p' "$BASE/dev/run/state")"
    run -0 timeout 60 "$ROOT/wasm_style_sandbox.sh" destroy --yes dev
    [ ! -e "$BASE/dev" ]
}

@test "91 a server that crashes is reported, and runs again on its port" {
    sandbox create postgres dev auto
    sandbox run dev
    kill -KILL "$(sed -n 's/^pid1=//p' "$BASE/dev/run/state")"
    for _ in {1..50}; do
        [[ $(state_of dev) != crashed ]] || break
        sleep 0.1
    done
    [ "$(state_of dev)" = crashed ]
    run -0 sandbox status dev
    [[ $output == *"ended "* ]]
    run -0 sandbox run dev
    answers dev
}

@test "an environment that is damaged while it runs, or after a crash, can be destroyed" {
    for fault in running crashed; do
        sandbox create postgres dev auto --ephemeral
        sandbox run dev
        mapfile -t groups < <(sed -n 's/^cgroup=//p' "$BASE/dev/run/state")
        if [[ $fault == crashed ]]; then kill -KILL "$(sed -n 's/^pid=//p' "$BASE/dev/run/state")"; fi
        rm "$BASE/dev/record" "$BASE/dev/config/plan"
        run -0 sandbox destroy --yes dev
        nothing_runs
        for group in "${groups[@]}"; do [ ! -e "$group" ]; done
    done
}

@test "88 a plan that is cut or changed is never run: it is compiled again from the manifest" {
    sandbox create postgres dev auto --ephemeral
    plan=$BASE/dev/config/plan
    cp -p "$plan" "$BATS_TEST_TMPDIR/plan"
    size=$(stat -c %s "$plan")
    for length in 0 1 $((size / 2)) $((size - 1)); do
        head -c "$length" "$BATS_TEST_TMPDIR/plan" >"$plan"
        run -0 sandbox run dev
        [[ ${lines[0]} == "compiling the plan again: the compiled plan "* ]]
        [[ $(tail -n 1 "$plan") == end* ]]
        sandbox stop dev
    done
    sed 's/^limit\tmemory\t.*/limit\tmemory\t99999999999/' "$BATS_TEST_TMPDIR/plan" >"$plan"
    run -0 sandbox run dev
    run -1 grep 99999999999 "$plan"
}

@test "100 an environment's directory that is a link or open to others is refused" {
    handmade dev
    mv "$BASE/dev" "$BATS_TEST_TMPDIR/elsewhere"
    ln -s "$BATS_TEST_TMPDIR/elsewhere" "$BASE/dev"
    for words in "run dev" "stop dev" "status dev" "inspect dev" "url dev" "destroy --yes dev" "activate dev"; do
        # shellcheck disable=SC2086 # words are words
        run -4 sandbox $words
        [[ $output == *"is a symbolic link"* ]]
    done
    [ -f "$BATS_TEST_TMPDIR/elsewhere/.virt-owned" ]
    rm "$BASE/dev"
    mv "$BATS_TEST_TMPDIR/elsewhere" "$BASE/dev"
    for mode in 777 770 707; do
        chmod "$mode" "$BASE/dev"
        run -4 sandbox run dev
        [[ $output == *"can be written by other users (mode $mode)"* ]]
        run -4 sandbox destroy --yes dev
    done
    chmod 700 "$BASE/dev"
    chmod 777 "$BASE"
    run -4 sandbox stop dev
    run -4 sandbox create postgres two auto
    chmod 755 "$BASE"
    run -0 sandbox stop dev
}

@test "a directory without the marker is never deleted" {
    mkdir -p "$BASE/photos"
    chmod 755 "$BASE"
    run -4 sandbox destroy --yes photos
    [[ $output == *"it has no .virt-owned marker"* ]]
    [ -d "$BASE/photos" ]
}

@test "staging of a dead process is swept, that of a living one is not" {
    sandbox create postgres warm auto
    mkdir "$BASE/.new.a.999999999" "$BASE/.dying.b.999999999" "$BASE/.templates/.new.c.999999999" "$BASE/.new.live.$$"
    # As overlay leaves its work directory.
    local work=$BASE/.new.a.999999999/work
    mkdir -p "$work"/{work,index}
    chmod 000 "$work"/*
    sandbox create postgres dev auto
    [ "$(
        cd "$BASE" && compgen -G '.new.*'
        compgen -G "$BASE/.dying.*"
        compgen -G "$BASE/.templates/.new.*"
    )" = ".new.live.$$" ]
    rmdir "$BASE/.new.live.$$"
}

@test "without its Python, a running environment can still be destroyed" {
    sandbox create postgres dev auto --ephemeral
    sandbox run dev
    mkdir "$BATS_TEST_TMPDIR/bare"
    cp -r "$ROOT/lib" "$ROOT/templates" "$ROOT/wasm_style_sandbox.sh" "$BATS_TEST_TMPDIR/bare"
    run -0 "$BATS_TEST_TMPDIR/bare/wasm_style_sandbox.sh" destroy --yes dev
    nothing_runs
    [ ! -e "$BASE/dev" ]
}
