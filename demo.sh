#!/usr/bin/env bash
# Usage: ./demo.sh [--yes]
#
# A short tour: makes a real PostgreSQL in a sandbox, asks it something, shows what it may do
# and what it may not, and removes it all. Everything is in a temporary directory.
# Without a terminal, or with --yes, it asks nothing.
set -euo pipefail
cd "$(dirname "$(readlink -f -- "${BASH_SOURCE[0]}")")"

case ${1-} in
    '') if [[ -t 0 && -t 1 ]]; then
        read -rp 'Make a sandboxed PostgreSQL in a temporary directory, and remove it again? [Y/n] ' answer
        [[ ${answer:-y} == [Yy]* ]] || exit 0
    fi ;;
    --yes) ;;
    *)
        printf 'demo.sh: unknown argument %q\n  try: ./demo.sh --yes\n' "$1" >&2
        exit 2
        ;;
esac

home=$(mktemp -d "${TMPDIR:-/tmp}/virt-demo.XXXXXX")
export VIRT_HOME=$home PSQL_PAGER=cat PSQLRC=/dev/null
# The environment's owner is not always us: as plain root it is another uid, under sudo the caller.
chmod 755 "$home"
if [[ $EUID -eq 0 && -n ${SUDO_UID-} ]]; then chown "$SUDO_UID:${SUDO_GID-}" "$home"; fi

finish() {
    local code=$?
    trap - EXIT
    if [[ -d $home/.sandboxes/demo ]]; then ./wasm_style_sandbox.sh destroy --yes demo || code=1; fi
    rm -rf --one-file-system -- "$home"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

say() { printf '\n# %s\n' "$*"; }

# Shows a command as it can be typed, then runs it.
show() {
    local word line='$'
    for word in "$@"; do
        if [[ $word == *[!a-zA-Z0-9_./=-]* ]]; then word="'${word//\'/\'\\\'\'}'"; fi
        line+=" $word"
    done
    printf '%s\n' "$line"
    "$@"
}

# Shows a command that must fail; that it does not is the demo's failure.
show_denied() {
    if show "$@" 2>&1; then
        printf 'demo.sh: this should have been denied\n' >&2
        exit 1
    fi
}

say 'An environment: its own server, data, port, credentials and limits.'
show ./wasm_style_sandbox.sh create postgres demo auto
show ./wasm_style_sandbox.sh run demo

say 'Activated like a Python venv; psql and every program that reads DB_* find it.'
printf '$ source .sandboxes/demo/activate\n'
# shellcheck disable=SC1091 # made by create
source "$home/.sandboxes/demo/activate"
show psql -c 'select version()'

say 'What it was granted, and what holds it to that.'
show ./wasm_style_sandbox.sh inspect demo

say 'Nothing else is there: no file of the host, no network. The same connection outside works.'
connect="printf \"connected\\n\" 3<>/dev/tcp/127.0.0.1/$DB_PORT"
show bash -c "$connect"
show_denied ./wasm_style_sandbox.sh exec demo -- bash -c "$connect"
show_denied ./wasm_style_sandbox.sh exec demo -- cat /etc/shadow

say 'Gone without a trace.'
show ./wasm_style_sandbox.sh destroy --yes demo
printf '\nYours: ./wasm_style_sandbox.sh create postgres dev   (README.md has the rest)\n'
