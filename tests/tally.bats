#!/usr/bin/env bats
# The judge of `make test`: what it counts as a failure.
bats_require_minimum_version 1.5.0

setup() {
    tally=$BATS_TEST_DIRNAME/tally.py
    results=$BATS_TEST_TMPDIR/results
    mkdir -p "$results/here"
    : >"$results/left-behind"
    printf '1..1\nok 1 a name in 3ms\n' >"$results/here/a.tap"
    printf '<testsuites><testcase classname="t" name="one"/></testsuites>' >"$results/here/pytest.xml"
    printf '# a comment\n^needs root\n' >"$BATS_TEST_TMPDIR/expected"
}

judge() { python3 -I "$tally" "$results" "$BATS_TEST_TMPDIR/expected"; }

@test "all passed is the sum, and exit 0" {
    run -0 judge
    [ "$output" = '2 passed, 0 failed, 0 skipped' ]
}

@test "an expected skip is counted, an unexpected one fails" {
    printf '1..2\nok 1 a name in 3ms # skip needs root\nok 2 b\n' >"$results/here/a.tap"
    run -0 judge
    [ "${lines[-1]}" = '2 passed, 0 failed, 1 skipped' ]
    printf '1..2\nok 1 a name # skip no time\nok 2 b\n' >"$results/here/a.tap"
    run -1 judge
    [ "${lines[0]}" = 'UNEXPECTED SKIP (here) a: a name: no time' ]
}

@test "a failure of either kind fails" {
    printf '1..1\nnot ok 1 a name in 3ms\n' >"$results/here/a.tap"
    run -1 judge
    [ "${lines[0]}" = 'FAILED (here) a: a name' ]
    printf '1..1\nok 1 a name\n' >"$results/here/a.tap"
    printf '<testsuites><testcase classname="t" name="one"><error/></testcase></testsuites>' >"$results/here/pytest.xml"
    run -1 judge
    [ "${lines[0]}" = 'FAILED (here) t: one' ]
}

@test "a report that stops early fails" {
    printf '1..2\nok 1 a name\n# ended with 137\n' >"$results/here/a.tap"
    run -1 judge
    [ "${lines[-1]}" = '2 passed, 1 failed, 0 skipped' ]
}

@test "a report of pytest's that is empty, or without a test, fails" {
    : >"$results/here/pytest.xml"
    run -1 judge
    [ "${lines[0]}" = 'FAILED (here) pytest: the report is cut short' ]
    printf '<testsuites/>' >"$results/here/pytest.xml"
    run -1 judge
    [ "${lines[0]}" = 'FAILED (here) pytest: ran no test' ]
}

@test "something left behind fails" {
    printf 'process 1 sleep 9\n' >"$results/left-behind"
    run -1 judge
    [[ $output == *'LEFT BEHIND:'*'process 1 sleep 9'*'2 passed, 1 failed'* ]]
}
