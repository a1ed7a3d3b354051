# shellcheck shell=bash
# What a bare system lacks for bin/bootstrap: pip's wheel, libseccomp. Root installs the
# system's package; an ordinary user unpacks it, or is told the command.

# Sets REPLY to pip's wheel for a Python that has none; without root, unpacked below $1.
bootstrap_pip_wheel() {
    local wheels=/usr/share/python-wheels
    if [[ $EUID -eq 0 ]]; then
        bootstrap_apt_install python3-pip-whl
    else
        wheels=$1$wheels
        compgen -G "$wheels/pip-*.whl" >/dev/null || bootstrap_apt_unpack "$1" &>/dev/null ||
            die "$EXIT_HOST" "this Python has no pip, and the package python3-pip-whl cannot be fetched" \
                "sudo apt-get install python3-venv"
    fi
    REPLY=$(compgen -G "$wheels/pip-*.whl")
}

# Fetches and unpacks below $1, where apt has its own state and cache meanwhile. A chain of &&,
# for the caller's || silences set -e.
bootstrap_apt_unpack() {
    local apt=(apt-get -qq -o "Dir::State=$1" -o Dir::State::status=/var/lib/dpkg/status
        -o "Dir::Cache=$1/cache" -o Debug::NoLocking=1)
    mkdir -p "$1/lists/partial" "$1/cache/archives/partial" &&
        "${apt[@]}" update &&
        (cd "$1" && "${apt[@]}" download python3-pip-whl) &&
        dpkg -x "$1"/python3-pip-whl_*.deb "$1" &&
        rm -r -- "$1/lists" "$1/cache"
}

bootstrap_apt_install() {
    local said apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120)
    local install=("${apt[@]}" install --yes --no-install-recommends "$1")
    bootstrap_say "installing the system package $1 with apt-get"
    # The lists of a new system are empty, those of an old one too old to fetch by.
    said=$("${install[@]}" 2>&1) || said=$({ "${apt[@]}" update && "${install[@]}"; } 2>&1) ||
        die "$EXIT_HOST" "cannot install the system package $1: ${said##*$'\n'}" "sudo apt-get install $1"
}

# The plan's filters are compiled with libseccomp, which .venv ($1) cannot bring.
bootstrap_seccomp() {
    local found=("$1/bin/python3" -I -c 'import pyseccomp')
    "${found[@]}" 2>/dev/null && return 0
    if [[ $EUID -eq 0 ]]; then bootstrap_apt_install libseccomp2; fi
    "${found[@]}" 2>/dev/null ||
        die "$EXIT_HOST" "this host has no libseccomp.so.2" "sudo apt-get install libseccomp2"
}
