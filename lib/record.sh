# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is read by the files that are sourced with it
# What an environment is and how it is, read from its files and /proc without a fork: `list`
# does this hundreds of times.

RECORD_BOOT_ID=''

# Reads the environment in directory $1: FIELDS has its record and the supervisor's run/state
# (or run/exit), STATE is running, starting, stopping, stopped, crashed, damaged, or private
# (another user's).
record_read() {
    FIELDS=()
    if [[ ! -x $1 || ! -r $1 ]]; then
        STATE=private
        return 0
    fi
    core_fields "$1/record"
    core_fields "$1/run/state"
    if record_is_alive; then
        STATE=${FIELDS[status]}
    elif [[ ${FIELDS[format]-} != 1 ]] || ! backend_is_whole "$1"; then
        STATE=damaged
    elif [[ -n ${FIELDS[status]-} ]]; then
        STATE=crashed
    else
        core_fields "$1/run/exit"
        if [[ ${FIELDS[reason]-stopped} =~ ^(stopped|killed)$ ]]; then STATE=stopped; else STATE=crashed; fi
    fi
}

# Does the supervisor of FIELDS live? Its pid alone proves nothing: numbers are used again,
# and a file outlives a reboot. The start time (field 22, proc(5)) and the boot's id do.
record_is_alive() {
    local pid=${FIELDS[pid]-} stat='' fields=()
    [[ ${FIELDS[status]-} =~ ^(starting|running|stopping)$ && $pid =~ ^[1-9][0-9]*$ ]] || return 1
    [[ -n $RECORD_BOOT_ID ]] || read -r RECORD_BOOT_ID </proc/sys/kernel/random/boot_id
    [[ ${FIELDS[boot_id]-} == "$RECORD_BOOT_ID" ]] || return 1
    { IFS= read -r stat <"/proc/$pid/stat"; } 2>/dev/null || return 1
    # Field 2, the program's name, may have spaces and parentheses: count from its end.
    read -ra fields <<<"${stat##*) }"
    [[ ${fields[0]-} != [ZX] && ${fields[19]-} == "${FIELDS[start_time]-}" ]]
}

# Sets ENVIRONMENTS to the names of the environments below VIRT_BASE.
record_names() {
    local dir
    ENVIRONMENTS=()
    for dir in "$VIRT_BASE"/*; do
        [[ -d $dir && ! -L $dir && (-f $dir/.virt-owned || ! -x $dir) ]] || continue
        if record_is_name "${dir##*/}"; then ENVIRONMENTS+=("${dir##*/}"); fi
    done
}

# A name is a plain file name, safe in a prompt, a URL, a message and a process's title.
record_is_name() {
    [[ $1 =~ ^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$ && $1 != *..* ]]
}
