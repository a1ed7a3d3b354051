#!/usr/bin/env bats
# The command line: verbs, flags, help, and what a wrong word is answered.
load helpers

@test "without a verb, help lists every verb with its line" {
    run -0 sandbox
    for verb in create run stop restart status list inspect logs exec activate url destroy doctor help; do
        [[ $output == *$'\n'"  $verb "* ]]
    done
}

@test "help VERB and VERB --help print the header of the verb" {
    run -0 sandbox help create
    [[ $output == "Usage: "*"wasm_style_sandbox.sh create ENGINE NAME [PORT]"* ]]
    [[ $output == *"--memory SIZE"* ]]
    [[ $output != *"shellcheck"* ]]
    local help=$output
    run -0 sandbox create --help
    [ "$output" = "$help" ]
    run -0 sandbox create some words -h
    [ "$output" = "$help" ]
    run -0 sandbox help start
    [[ $output == *" run NAME"* ]]
}

@test "--version is one line" {
    run -0 sandbox --version
    [[ $output =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]]
}

@test "an error is two lines on stderr: what is wrong, and something to type" {
    run -3 --separate-stderr sandbox run nobody
    [ -z "$output" ]
    [ "${#stderr_lines[@]}" -eq 2 ]
    [[ ${stderr_lines[0]} == *"wasm_style_sandbox.sh: run: no environment 'nobody' in "* ]]
    [[ ${stderr_lines[1]} == "  try: "*"wasm_style_sandbox.sh list" ]]
}

@test "an unknown verb names the nearest" {
    run -2 sandbox craete
    [[ $output == *"unknown verb 'craete': did you mean create?"* ]]
    run -2 sandbox satrt
    [[ $output == *"did you mean start?"* ]]
    run -2 sandbox xyzzyplugh
    [[ $output != *"did you mean"* ]]
}

@test "a verb that other backends have is refused by its name" {
    for verb in snapshot restore reset clone grant revoke denials verify; do
        run -4 sandbox "$verb" dev
        [[ $output == *"the sandbox backend has no verb '$verb'"* ]]
    done
}

@test "an unknown flag names the nearest" {
    run -2 sandbox create postgres dev --memroy 1G
    [[ $output == *"unknown flag '--memroy': did you mean --memory?"* ]]
    run -2 sandbox list -x
    [[ $output == *"unknown flag '-x'"* ]]
    run -2 sandbox list --help=no
    [[ $output == *"--help takes no value"* ]]
}

@test "an unknown engine lists the engines, an alias is one" {
    run -2 sandbox create posgres dev
    [[ $output == *"unknown engine 'posgres'; the engines are: "*postgres* ]]
    [[ $output == *"create postgres NAME"* ]]
    run -2 sandbox create pg dev 0
    [[ $output == *"create postgres dev auto"* ]]
}

@test "too few and too many words name the word" {
    run -2 sandbox create postgres
    [[ $output == *"create: NAME is missing"* ]]
    run -2 sandbox list dev
    [[ $output == *"list: unexpected word 'dev'"* ]]
    run -2 sandbox exec dev
    [[ $output == *"exec: COMMAND is missing"* ]]
}

@test "a flag's value stands after = or in the next word, before or after the other words" {
    handmade dev
    seq 9 >"$BASE/dev/logs/service.log"
    for words in "--lines 2 dev" "dev --lines=2" "-n 2 dev" "dev -n 2" "--lines=2 -- dev"; do
        # shellcheck disable=SC2086 # words are words
        run -0 sandbox logs $words
        [ "$output" = $'8\n9' ]
    done
    run -2 sandbox logs dev --lines
    [[ $output == *"--lines needs a value"* ]]
    run -2 sandbox logs dev --lines -2
    [[ $output == *"--lines needs a value, not '-2'"* ]]
    run -2 sandbox logs dev --lines 2 --lines 3
    [[ $output == *"--lines is given twice"* ]]
}

@test "what follows exec's command is the command's" {
    handmade dev
    run -125 sandbox exec dev psql --json
    [[ $output == *"'dev' is not running: it is stopped"* ]]
    run -125 sandbox exec --env A=1 dev -- psql -x
    [[ $output == *"is not running"* ]]
    run -2 sandbox exec dev --json psql
    [[ $output == *"unknown flag '--json'"* ]]
}

@test "the entry works through a symbolic link, a relative path and the PATH" {
    ln -s "$ROOT/wasm_style_sandbox.sh" "$BATS_TEST_TMPDIR/link"
    run -0 "$BATS_TEST_TMPDIR/link" --version
    run -0 env PATH="$ROOT:$PATH" wasm_style_sandbox.sh --version
    cd "$ROOT/lib"
    run -0 ../wasm_style_sandbox.sh --version
    cd "$ROOT"
    run -0 ./wasm_style_sandbox.sh --version
    run -0 bash wasm_style_sandbox.sh --version
}

@test "without VIRT_HOME the environments are in the current directory" {
    mkdir -p "$BATS_TEST_TMPDIR/project"
    cd "$BATS_TEST_TMPDIR/project"
    unset VIRT_HOME
    run -3 sandbox status dev
    [[ $output == *"in $BATS_TEST_TMPDIR/project/.sandboxes"* ]]
}
