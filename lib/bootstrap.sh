# shellcheck shell=bash
# How bin/bootstrap makes .venv.
#
# .venv holds .virt-owned (written first: ours to delete) and .complete (written last: the
# checksum of the lock that it was made from). One without .complete is removed, made again.
venv=$VIRT_ROOT/.venv

# An interpreter's word on itself: its real file (past a shim or a venv), its version, pip's
# wheel. Fails when it cannot serve. Python keeps pip's wheel in WHEEL_PKG_DIR (Debian, Fedora)
# or in ensurepip; a bare Debian has neither.
BOOTSTRAP_PROBE='
import ctypes, glob, os, ssl, sys, sysconfig, venv, zlib
assert sys.version_info >= (3, 9)
places = [sysconfig.get_config_var("WHEEL_PKG_DIR"), sysconfig.get_path("stdlib") + "/ensurepip/_bundled"]
wheels = [wheel for place in places if place for wheel in glob.glob(place + "/pip-*.whl")]
print(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
print(sys.version.split()[0])
print(*wheels[:1])
'

bootstrap_say() {
    [[ -n $quiet ]] || printf 'setting up .venv (once): %s\n' "$1"
}

# Root writes in a checkout of another user's, sudo's caller's above all, as that user only.
bootstrap_owner() {
    local facts uid gid
    facts=$(stat -c '%u %g' -- "$VIRT_ROOT")
    read -r uid gid <<<"$facts"
    if ((EUID == 0 && uid != 0)); then owner_act_as "$uid" "$gid"; fi
}

# Was .venv made from the lock as it is now? $1: "" or -dev.
bootstrap_is_current() {
    [[ -f $venv/.complete$1 && $(<"$venv/.complete$1") == "$(cksum <"requirements$1.lock")" ]]
}

# Does the copied interpreter still find its standard library? (A system upgrade replaces it.)
bootstrap_runs() {
    "$venv/bin/python3" -I -S -c 'import ctypes, json' 2>/dev/null
}

# Always renewed: entries compare its time with the lock's, which a git checkout renews too.
bootstrap_mark() {
    bootstrap_is_current "$1" && [[ ! requirements$1.lock -nt $venv/.complete$1 ]] && return 0
    # shellcheck disable=SC2016 # $1 and $2 are for the inner bash
    "${AS_OWNER[@]}" bash -c 'cksum <"$1" >"$2.new" && mv -f -- "$2.new" "$2"' \
        mark "requirements$1.lock" "$venv/.complete$1"
}

# Can this interpreter serve? ARGS: the interpreter, then the prefix to ask it through. Sets
# python, version and pip_wheel.
bootstrap_is_usable() {
    local candidate=$1 answer
    shift
    command -v "$candidate" >/dev/null || return 1
    answer=$("$@" "$candidate" -I -c "$BOOTSTRAP_PROBE" 2>/dev/null) || return 1
    { read -r python && read -r version && read -r pip_wheel; } <<<"$answer"$'\n'
}

# Sets python, version and pip_wheel.
bootstrap_python() {
    local candidate candidates=(python3 /usr/bin/python3) hint="sudo apt-get install python3"
    local uid=${VIRT_GUEST_UID:-60913} by=("${AS_OWNER[@]}") whom=''
    if [[ -n ${VIRT_PYTHON-} ]]; then
        candidates=("$VIRT_PYTHON") hint="unset VIRT_PYTHON"
    fi
    if [[ $EUID -eq 0 && ${AS_OWNER[0]} == command ]]; then
        # The runtime becomes the guest's uid, which cannot reach a Python below /root.
        by=(setpriv "--reuid=$uid" "--regid=$uid" --clear-groups)
        whom=" that uid $uid can run"
    fi
    for candidate in "${candidates[@]}"; do
        if bootstrap_is_usable "$candidate" "${by[@]}"; then return 0; fi
    done
    die "$EXIT_HOST" "no Python 3.9 or later with ctypes, ssl and venv$whom: tried ${candidates[*]}" "$hint"
}

# An empty .venv around a copied interpreter: a copy, so that an AppArmor profile can name it.
bootstrap_venv() {
    if [[ -f $venv/.complete ]] && bootstrap_runs; then
        # Made from an older lock. pip changes what differs, and a server that runs from this
        # .venv keeps its files.
        rm -f -- "$venv/.complete" "$venv/.complete-dev"
        return 0
    fi
    if [[ -e $venv || -L $venv ]]; then
        [[ -f $venv/.virt-owned ]] || rmdir -- "$venv" 2>/dev/null ||
            die "$EXIT_STATE" "refusing to replace $venv: it has no .virt-owned marker" "mv .venv .venv.old"
        rm -rf -- "$venv"
    fi
    bootstrap_say "Python $version from $python"
    "${AS_OWNER[@]}" mkdir -- "$venv" 2>/dev/null ||
        die "$EXIT_STATE" "cannot write in $VIRT_ROOT" "git clone $(printf %q "$VIRT_ROOT") ~/virtualize"
    "${AS_OWNER[@]}" touch -- "$venv/.virt-owned"
    "${AS_OWNER[@]}" "$python" -I -m venv --copies --without-pip "$venv"
    bootstrap_runs ||
        die "$EXIT_HOST" "a copy of $python does not run" "VIRT_PYTHON=/usr/bin/python3 bin/bootstrap"
}

# Installs a lock with pip, run from its wheel. $1: "" or -dev.
bootstrap_install() {
    local lock_file=requirements$1.lock said
    if [[ -z $pip_wheel ]]; then
        bootstrap_say "fetching pip: $python has none"
        bootstrap_pip_wheel "$venv/.apt"
        pip_wheel=$REPLY
    fi
    bootstrap_say "fetching the packages of $lock_file"
    # Captured, not sent to a file: as root a redirection would make root's file in .venv.
    said=$("${AS_OWNER[@]}" "$venv/bin/python3" -I "$pip_wheel/pip" install --quiet --retries 2 \
        --require-hashes --no-deps --only-binary ":all:" -r "$lock_file" 2>&1) &&
        return 0
    case $said in
        *NewConnectionError* | *NameResolutionError* | *"Failed to establish"* | *"timed out"*)
            said="the package index does not answer"
            ;;
        *ERROR:*) said=${said#*ERROR: } said=${said%%$'\n'*} ;;
    esac
    die "$EXIT_HOST" "cannot install $lock_file: $said" \
        "bin/bootstrap   (with a network, or PIP_INDEX_URL set to a mirror)"
}
