#!/usr/bin/env bats
# Style as a test: each banned pattern with its reason. shellcheck, shfmt, ruff and mypy say the
# rest (`make lint`).
bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/.." || exit
    mapfile -t shell < <(
        find . -name '*.sh' -not -path './.*/*' -print
        grep -lE '^#!.*(ba)?sh$' bin/* tests/run tests/suite tests/bench/* .ci/* 2>/dev/null
    )
    mapfile -t python < <(find pyhelpers tests -name '*.py')
}

# Fails, with the places, if PATTERN is in the code (comments left out) of FILES.
banned() {
    local pattern=$1 reason=$2 file found
    shift 2
    for file in "$@"; do
        found=$(sed -E 's/^[[:space:]]*#.*//; s/[[:space:]]# .*//' "$file" | grep -nE -- "$pattern") || continue
        printf '%s:%s\n' "$file" "$found"
    done | tee "$BATS_TEST_TMPDIR/found"
    [ ! -s "$BATS_TEST_TMPDIR/found" ] || {
        printf 'banned: %s\n' "$reason"
        return 1
    }
}

# FILES but those that match PATTERN, in the array `others`.
except() {
    local pattern=$1
    shift
    mapfile -t others < <(printf '%s\n' "$@" | grep -vE -- "$pattern")
}

@test "the check itself finds a banned pattern, and not one in a comment" {
    printf '# eval is banned\ncd / # or eval\n' >"$BATS_TEST_TMPDIR/good.sh"
    banned '\beval\b' 'the twin' "$BATS_TEST_TMPDIR/good.sh"
    printf 'eval true\n' >"$BATS_TEST_TMPDIR/bad.sh"
    run -1 banned '\beval\b' 'the twin' "$BATS_TEST_TMPDIR/bad.sh"
    [ "${#shell[@]}" -gt 10 ]
    [ "${#python[@]}" -gt 10 ]
}

@test "no eval: a value would become code" {
    banned '(^|[[:space:];&|(])eval[[:space:]]' 'commands are arrays' "${shell[@]}"
}

@test "no local x=\$(…): local's success hides the command's failure" {
    banned '(local|declare|readonly|export)[^;]*[[:alnum:]_]="?\$\([^(]' 'two steps: local, then x=…' "${shell[@]}"
}

@test "no error of its own form: die is the one place" {
    except '(demo\.sh|/core\.sh)$' "${shell[@]}"
    banned '(echo|printf) .*[Ee]rror:' 'die CODE MESSAGE HINT' "${others[@]}"
}

@test "no echo: printf does not take a value for an option" {
    banned '(^|[[:space:];&|(])echo[[:space:]]' 'printf' "${shell[@]}"
}

@test "rm -r only where a directory is known to be ours" {
    # state deletes environments and staging, bootstrap its .venv, the others their own mktemp -d.
    except '(lib/state[a-z_]*\.sh|lib/bootstrap[a-z_]*\.sh|demo\.sh|tests/run|tests/bench/.*)$' "${shell[@]}"
    banned '\brm +-[a-zA-Z]*[rR]' 'state_remove' "${others[@]}"
}

@test "no command -v by another name: which is not everywhere" {
    banned '(^|[[:space:];&|(])which[[:space:]]' 'command -v' "${shell[@]}"
}

@test "a verb names no backend, and no shell or Python of ours names an engine" {
    banned '\b(docker|lightweight)\b|\bsandbox[._]|backends/' 'verbs call backend_*' lib/verbs/*.sh
    mapfile -t code < <(find lib pyhelpers -name '*.sh' -o -name '*.py')
    banned '\b(postgres|postgresql|mysql|mariadb|redis|valkey)\b' 'engines are data' "${code[@]}"
}

@test "the runtime imports nothing but itself and the standard library, and nothing imports it" {
    .venv/bin/python3 -I - pyhelpers/launch/*.py <<'PYTHON'
import ast, sys
for path in sys.argv[1:]:
    for node in ast.walk(ast.parse(open(path).read())):
        names = [n.name for n in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        for name in names:
            top = name.split(".")[0]
            if top != "launch" and top[0] != "_" and top not in sys.stdlib_module_names:
                sys.exit(f"{path}:{node.lineno} imports {name}")
PYTHON
    except '^(pyhelpers/launch|tests)/' "${python[@]}"
    banned '^[[:space:]]*(from|import) .*\blaunch\b' 'the plan is all that they share' "${others[@]}"
}

@test "no shell out of Python" {
    except '^tests/' "${python[@]}"
    banned 'shell=True|os\.system\(|\bos\.popen\(' 'arrays' "${others[@]}"
}

@test "every program is strict from its first line" {
    for file in *.sh bin/* .ci/run tests/run tests/suite; do
        first=$(grep -vE '^(#|$)' "$file" | head -n 1)
        [ "$first" = 'set -euo pipefail' ] || {
            printf '%s begins with: %s\n' "$file" "$first"
            return 1
        }
    done
}

@test "nothing is left to do, and no machine or index is named" {
    mapfile -t files < <(
        find . -type f -not -path '*/.*/*' -not -path '*/__pycache__/*' -not -path './tests/style.bats'
        find .ci -type f
    )
    run -1 grep -nE '\b(TODO|FIXME|XXX)\b|/work/(main|shared|\.)|files\.pythonhosted\.org|pypi\.org' "${files[@]}"
}

@test "a lint is switched off for one line, with its reason" {
    run -1 grep -nE 'shellcheck disable=[A-Z0-9,]+$|# noqa$|# type: ignore$' "${shell[@]}" "${python[@]}"
    run -1 grep -n 'disable=' .shellcheckrc
}

@test "files stay small: shell up to 150 lines, Python up to 400" {
    for file in "${shell[@]}"; do
        [[ $file == */tests/* ]] || (($(wc -l <"$file") <= 150)) || {
            printf '%s: %s\n' "$file" "$(wc -l <"$file")"
            return 1
        }
    done
    for file in "${python[@]}"; do
        (($(wc -l <"$file") <= 400)) || {
            printf '%s: %s\n' "$file" "$(wc -l <"$file")"
            return 1
        }
    done
}
