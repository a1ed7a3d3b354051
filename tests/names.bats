#!/usr/bin/env bats
# Names and ports from outside: refused with the value made harmless, nothing made.
# shellcheck disable=SC2016 # what is in single quotes is for an inner shell, or a name
load helpers

long=$(printf 'a%.0s' {1..300})

@test "93 a name that is a path, empty, long or begins with a dot or dash is refused" {
    for name in ../x /abs . .. '' "$long" .hidden a..b a/b "$(printf 'a%.0s' {1..41})"; do
        for verb in run stop status inspect url activate destroy; do
            run -2 sandbox "$verb" "$name"
            [[ $output == *"$verb: not a name: "* ]]
        done
        run -2 sandbox create postgres "$name" auto
        [[ $output == *"not a name"* ]]
    done
    run -2 sandbox create postgres -- -x auto
    [[ $output == *"not a name: '-x'"* ]]
    [ ! -e "$BASE" ] || [ -z "$(ls "$BASE")" ]
    # Its twin: names at the limits are names.
    for name in a A9 "$(printf 'a%.0s' {1..40})" a.b-c_d 0; do
        run -3 sandbox status "$name"
    done
}

@test "94 a newline, quotes, terminal sequences, bidirectional marks and homoglyphs are refused and escaped" {
    for name in $'a\nb' "a'b" 'a"b' $'a\e[31mb' $'a\u202eb' $'\u0430bc' 'a b' 'a$b' 'a;b' $'a\tb' 'a\b'; do
        run -2 sandbox create postgres "$name" auto
        [[ $output == *"not a name: "* ]]
        # Two lines of printable ASCII whatever was given.
        [ "${#lines[@]}" -eq 2 ]
        LC_ALL=C
        [[ $output != *[!$'\n'\ -~]* ]]
        run -2 sandbox destroy --yes "$name"
    done
    run -2 sandbox $'\e[31m'
    [[ $output != *$'\e'* ]]
}

@test "98 a port that is none is refused" {
    for port in 0 65536 99999999999 -1 +1 0x50 080 '"5432"' 54.32 '' ' 5432' localhost; do
        run -2 sandbox create postgres dev -- "$port"
        [[ $output == *"not a port: "* ]]
    done
    [ ! -e "$BASE/dev" ]
}

@test "a directory with a foreign name is not listed" {
    handmade dev
    cp -r "$BASE/dev" "$BASE/"$'a\e[31mb'
    cp -r "$BASE/dev" "$BASE/a b"
    mkdir "$BASE/unmarked"
    run -0 sandbox list
    [ "${#lines[@]}" -eq 2 ]
    rm -rf "$BASE/"$'a\e[31mb' "$BASE/a b"
}
