# shellcheck shell=bash
# For every .bats file of the entry scripts: a home with a quote and spaces in its name, and the
# proof, after each test, that nothing of it runs.
bats_require_minimum_version 1.5.0

ROOT=$(cd "$BATS_TEST_DIRNAME/.." && pwd)

# A file's home is shared by its tests, so that its template is made once.
setup_home() {
    export VIRT_HOME="$BATS_FILE_TMPDIR/it's a home"
    mkdir -p "$VIRT_HOME"
    BASE=$VIRT_HOME/.sandboxes
    # Root's sandboxes become another uid, which must be able to walk here.
    chmod 755 "$BATS_RUN_TMPDIR" "$BATS_FILE_TMPDIR" "$VIRT_HOME" "$BATS_TEST_TMPDIR"
    unset VIRT_DISABLE_PROMPT VIRT_ENV_DIR
    cd "$VIRT_HOME" || exit
}

setup() {
    setup_home
}

# A home of this test alone, without a template.
new_home() {
    export VIRT_HOME="$BATS_TEST_TMPDIR/it's new"
    BASE=$VIRT_HOME/.sandboxes
}

teardown() {
    local dir name
    for dir in "$BASE"/*/; do
        name=${dir%/}
        name=${name##*/}
        [[ -L ${dir%/} ]] || chmod 700 "$dir"
        if [[ -L ${dir%/} || ! -f $dir/.virt-owned ]]; then
            rm -rf -- "${dir%/}"
        else
            sandbox destroy --yes "$name"
        fi
    done
    nothing_runs
    nothing_is_half_made
}

sandbox() {
    "$ROOT/wasm_style_sandbox.sh" "$@"
}

# Prints the processes that name our home in their command line, but for our own children.
running_here() {
    local process words
    for process in /proc/[0-9]*; do
        words=$(tr '\0' ' ' 2>/dev/null <"$process/cmdline") || continue
        if [[ $words == *"launch/__main__.py "*"$BATS_FILE_TMPDIR"* ]]; then
            printf '%s: %s\n' "${process##*/}" "$words"
        fi
    done
}

nothing_runs() {
    local left
    for _ in {1..30}; do
        left=$(running_here)
        [[ -n $left ]] || return 0
        sleep 0.1
    done
    printf 'still running: %s\n' "$left"
    return 1
}

nothing_is_half_made() {
    local left
    left=$(compgen -G "$BASE/.dying.*" || compgen -G "$BASE/.new.*" || compgen -G "$BASE/.templates/.new.*") || return 0
    printf 'left behind: %s\n' "$left"
    return 1
}

# An environment's directory made by hand, which no server ever saw: handmade NAME [KEY=VALUE…]
handmade() {
    local dir=$BASE/$1 field uid=$EUID gid=${GROUPS[0]}
    # The runtime refuses what is root's.
    if [[ $EUID -eq 0 ]]; then uid=60913 gid=60913; fi
    mkdir -p "$dir"/{bin,config,data,work,logs,run}
    [[ $EUID -ne 0 ]] || chmod 755 "$BASE"
    touch "$dir/.virt-owned" "$dir/config/plan"
    cp "$ROOT/templates/activate/activate" "$dir/bin/"
    ln -sf bin/activate "$dir/activate"
    printf '%s\n' format=1 backend=sandbox engine=postgres "name=$1" port=5999 address=127.0.0.1 \
        created=1700000000 "uid=$uid" "gid=$gid" layer=none version=18.6 >"$dir/record"
    printf '%s\n' DB_HOST=127.0.0.1 DATABASE_URL=postgresql://u:p@127.0.0.1:5999/d >"$dir/env"
    for field in "${@:2}"; do printf '%s\n' "$field" >>"$dir/run/state"; done
    chmod -R go= "$dir"
    [[ $EUID -ne 0 ]] || chown -hR "$uid:$gid" "$dir"
}

boot_id() {
    cat /proc/sys/kernel/random/boot_id
}

# Field 22 of /proc/PID/stat; the program's name has no spaces here.
start_time() {
    cut -d ' ' -f 22 "/proc/$1/stat"
}

# The state word of an environment.
state_of() {
    sandbox list --json | json "[e['state'] for e in answer['environments'] if e['name'] == '$1'][0]"
}

# The value of a Python expression over the JSON on stdin, `answer`.
json() {
    python3 -c "import json, sys; answer = json.load(sys.stdin); print($1)"
}

# Holds a port, any or the given one, until release_port: sets HELD_PORT and HOLDER_PID.
take_port() {
    coproc HOLDER {
        exec python3 -c '
import socket, sys
taken = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print(taken.getsockname()[1], flush=True)
sys.stdin.read()' "${1-0}" 3>&-
    }
    # shellcheck disable=SC2034 # read by the tests
    read -r HELD_PORT <&"${HOLDER[0]}"
}

release_port() {
    kill "$HOLDER_PID"
    wait "$HOLDER_PID" || true
}

needs_root() {
    [[ $EUID -eq 0 ]] || skip "needs root"
}
