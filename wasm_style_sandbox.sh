#!/usr/bin/env bash
# Database environments in kernel namespaces, granted only what their manifest says.
# `./wasm_style_sandbox.sh help` lists the verbs.
set -euo pipefail

# The toolkit's own directory, also when this script is reached through a symbolic link.
VIRT_ROOT=${BASH_SOURCE[0]}
if [[ -L $VIRT_ROOT ]]; then VIRT_ROOT=$(readlink -f -- "$VIRT_ROOT"); fi
case $VIRT_ROOT in
    ./*) VIRT_ROOT=$PWD/${VIRT_ROOT#./} ;;
    [!/]*) VIRT_ROOT=$PWD/$VIRT_ROOT ;;
esac
VIRT_ROOT=${VIRT_ROOT%/*}

VIRT_BACKEND=sandbox
VIRT_FOLDER=.sandboxes
# shellcheck source=lib/cli.sh
source "$VIRT_ROOT/lib/cli.sh"
cli_main "$@"
