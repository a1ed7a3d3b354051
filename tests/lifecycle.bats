#!/usr/bin/env bats
# A real server from create to destroy.
# shellcheck disable=SC2016 # what is in single quotes is for an inner shell, or a name
load helpers

# Asks the server through the activated variables, with the environment's own client.
ask() {
    bash -c 'source "$1/activate" && psql -XAtc "$2"' _ "$BASE/$1" "$2"
}

@test "create, run, query, stop, run again, destroy" {
    run -0 --separate-stderr sandbox create postgres dev auto
    [[ $output =~ ^dev:\ postgres\ [0-9.]+\ on\ port\ [0-9]+$ ]]
    [[ $stderr == *"next: "*" run dev" ]]
    [ "$(state_of dev)" = stopped ]
    run -0 sandbox run dev
    [[ $output == "dev is ready on 127.0.0.1 port "* ]]
    [ "$(state_of dev)" = running ]
    [ "$(ask dev 'create table t (n int); insert into t values (42); select n from t')" = $'CREATE TABLE\nINSERT 0 1\n42' ]
    [ "$(ask dev 'select current_user || current_database()')" = dev_userdev_db ]
    run -0 sandbox stop dev
    [ "$output" = "dev is stopped" ]
    [ "$(state_of dev)" = stopped ]
    run -0 sandbox stop dev
    [ "$output" = "dev is stopped already" ]
    run -0 sandbox start dev
    [ "$(ask dev 'select n from t')" = 42 ]
    run -0 sandbox restart dev
    [ "$(ask dev 'select n from t')" = 42 ]
    run -0 sandbox destroy --yes dev
    [ ! -e "$BASE/dev" ]
    nothing_runs
}

@test "the URL reaches the database, and TCP needs the password" {
    sandbox create pg dev auto --ephemeral
    sandbox run dev
    psql=$(compgen -G "$BASE/dev/bin/psql")
    [ "$("$psql" -XAtc 'select 1' "$(sandbox url dev)")" = 1 ]
    url=$(sandbox url dev)
    run ! "$psql" -XAtwc 'select 1' "${url/:*@/@}"
}

@test "run returns from \$(…), a pipe and a closed terminal while the server goes on" {
    sandbox create postgres dev auto --ephemeral
    said=$(sandbox run dev)
    [[ $said == *ready* ]]
    sandbox stop dev
    sandbox run dev | cat
    sandbox stop dev
    # script(1) gives a terminal, and takes it away at the end.
    script -qec "$(printf '%q ' "$ROOT/wasm_style_sandbox.sh" run dev)" /dev/null
    sleep 0.3
    [ "$(ask dev 'select 1')" = 1 ]
}

@test "exec runs inside, passes the exit code, the words and standard input" {
    sandbox create postgres dev auto --ephemeral
    sandbox run dev
    run -0 sandbox exec dev -- psql -XAtc 'select 1+1'
    [ "$output" = 2 ]
    run -7 sandbox exec dev bash -c 'exit 7'
    run -0 sandbox exec dev --env "A=it's b" -- bash -c 'printf "%s|" "$A" "$@"' _ 'x y' ''
    [ "$output" = "it's b|x y||" ]
    [ "$(printf in | sandbox exec dev cat)" = in ]
    run -127 sandbox exec dev no-such-program
    run -126 sandbox exec dev /etc/passwd
    run -0 script -qec "$(printf '%q ' "$ROOT/wasm_style_sandbox.sh" exec dev -- bash -c 'test -t 0 && test -t 1 && stty size')" /dev/null </dev/null
}

@test "status, inspect and doctor have JSON with a version, and never the password" {
    sandbox create postgres dev auto --ephemeral
    sandbox run dev
    [ "$(sandbox status dev --json | json "answer['version'], answer['state'], answer['memory'] > 0, answer['pid'] > 0")" = "1 running True True" ]
    [ "$(sandbox inspect dev --json | json "answer['version']")" = 1 ]
    [ "$(sandbox doctor --json | json "answer['version']")" = 1 ]
    password=$(sed -n 's/^DB_PASSWORD=//p' "$BASE/dev/env")
    for words in "status dev" "status dev --json" "inspect dev" "inspect dev --json" "logs dev" list; do
        # shellcheck disable=SC2086 # words are words
        run -0 sandbox $words
        [[ $output != *"$password"* ]]
    done
    run -1 grep -rlF -- "$password" "$BASE/dev/logs" "$BASE/dev/data"
    for process in /proc/[0-9]*/cmdline; do
        ! grep -qaF -- "$password" "$process" 2>/dev/null
    done
}

@test "create's flags write the manifest, and an edited manifest counts at restart" {
    sandbox create postgres dev auto --memory 300M --cpus 1 --pids 200 --env A=b --ephemeral
    manifest=$BASE/dev/config/capabilities.json
    [ "$(json "[answer['capabilities']['resources'][k] for k in ('memory', 'pids')], answer['environment']" <"$manifest")" = "['300M', 200] {'A': 'b'}" ]
    sandbox run dev
    python3 - "$manifest" <<'PYTHON'
import json, sys
manifest = json.load(open(sys.argv[1]))
manifest["capabilities"]["network"]["connect"] = ["192.0.2.1:5432"]
manifest["capabilities"]["resources"]["memory"] = "256M"
json.dump(manifest, open(sys.argv[1], "w"))
PYTHON
    run -0 --separate-stderr sandbox restart dev
    [[ $stderr == *"widened: "*192.0.2.1:5432* ]]
    [[ $stderr == *"narrowed: "*256M* ]]
    run -0 --separate-stderr sandbox restart dev
    [[ $stderr != *widened* ]]
}

@test "a busy port is refused at run with its owner, and create offers auto" {
    sandbox create postgres dev auto --ephemeral
    take_port "$(sed -n 's/^port=//p' "$BASE/dev/record")"
    run -4 sandbox run dev
    [ "${#lines[@]}" -eq 2 ]
    [[ ${lines[0]} == *"run: port $HELD_PORT is in use by "*"$HOLDER_PID"* ]]
    [[ ${lines[1]} == *" auto" ]]
    release_port
    run -0 sandbox run dev
}

@test "a port that a stranger holds is refused at create, one of another environment is a warning" {
    take_port
    run -4 sandbox create postgres dev "$HELD_PORT"
    [[ ${lines[0]} == *"$HELD_PORT"* && ${lines[1]} == *" auto" ]]
    [ ! -e "$BASE/dev" ]
    release_port
    run -0 --separate-stderr sandbox create postgres dev "$HELD_PORT"
    run -0 --separate-stderr sandbox create postgres two "$HELD_PORT"
    [[ $stderr == *"warning: port $HELD_PORT "*/dev* ]]
    sandbox run dev
    run -4 sandbox run two
    [[ $output == *"port $HELD_PORT is in use by "* ]]
}

@test "two environments share a template and nothing else" {
    sandbox create postgres one auto --ephemeral
    run -0 --separate-stderr sandbox create postgres two auto --ephemeral
    [[ $stderr != *"making the"* ]]
    sandbox run one
    sandbox run two
    ask one 'create table only_one ()'
    run ! ask two 'select from only_one'
    [ "$(sed -n 's/^DB_PASSWORD=//p' "$BASE/one/env")" != "$(sed -n 's/^DB_PASSWORD=//p' "$BASE/two/env")" ]
}

@test "destroy asks: the name on a terminal, --yes without one" {
    sandbox create postgres dev auto
    run -4 sandbox destroy dev </dev/null
    [[ $output == *"destroy --yes dev"* ]]
    command=$(printf '%q ' "$ROOT/wasm_style_sandbox.sh" destroy dev)
    run -4 script -qec "$command" /dev/null <<<no
    [ -d "$BASE/dev" ]
    run -0 script -qec "$command" /dev/null <<<dev
    [ ! -e "$BASE/dev" ]
}

@test "103 restart with an invalid manifest is refused, and the running server is not touched" {
    local manifest=$BASE/dev/config/capabilities.json before
    sandbox create postgres dev auto --ephemeral
    sandbox run dev
    before=$(sed -n "s/^pid=//p" "$BASE/dev/run/state")
    sed -i 's/"pids": 256/"pids": true/' "$manifest"
    run -4 sandbox restart dev
    [[ $output == *"capabilities.resources.pids: true: expected a whole number"* ]]
    [ "$(sed -n "s/^pid=//p" "$BASE/dev/run/state")" = "$before" ]
    sandbox exec dev -- psql -Atc 'select 1'
    sed -i 's/"pids": true/"pids": 128/' "$manifest"
    run -0 sandbox restart dev
    [[ $output == *"narrowed: resources.pids 256 -> 128"* ]]
    [ "$(sed -n "s/^pid=//p" "$BASE/dev/run/state")" != "$before" ]
}
