# shellcheck shell=bash
# Usage: create ENGINE NAME [PORT] [OPTION…]
#
# Makes an environment: its own server, data, port and password.
#
# PORT is a number, `auto` for a free one, or the engine's usual port if it is omitted. The
# options write the manifest, config/capabilities.json, which you may edit later.
#
#   --memory SIZE            at most so much memory, as 256M or 1G
#   --cpus NUMBER            at most so many processors, as 1.0
#   --pids NUMBER            at most so many processes and threads
#   --listen ADDRESS…        accept connections there: IP:PORT or [IPv6]:PORT
#   --connect ADDRESS…       allow connections to IP:PORT, CIDR:PORT or unix:PATH
#   --read PATH…             show this path, read-only: HOST or HOST::GUEST
#   --write PATH…            show this path, writable: HOST or HOST::GUEST
#   --env NAME=VALUE…        a variable of the server
#   --ephemeral              faster, and its data may be lost in a crash: for tests
#   --engine-version VERSION  not the highest version there is
#
# Examples:
#   create postgres dev 5432
#   create postgres test auto --ephemeral --memory 512M

verb_create() {
    local name=$2 port=${3-}
    state_check_name "$name"
    cli_engine "$1"
    if (($# > 2)) && [[ $port != auto ]]; then
        core_show "$port"
        [[ $port =~ ^[1-9][0-9]{0,4}$ && $port -le 65535 ]] ||
            die "$EXIT_USAGE" "not a port: $REPLY: a number from 1 to 65535, or auto" \
                "$VIRT_PROGRAM create $ENGINE $name auto"
    fi
    state_begin "$name"
    backend_create "$STAGING" "$ENGINE" "$name" "$port" ${FLAG_WORDS[@]+"${FLAG_WORDS[@]}"}
    state_commit
    record_read "$ENV_DIR"
    printf '%s: %s %s on port %s\n' "$name" "${FIELDS[engine]}" "${FIELDS[version]}" "${FIELDS[port]}"
    say "next: $VIRT_PROGRAM run $name"
}
