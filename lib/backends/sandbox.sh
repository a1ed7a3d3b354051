# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is read by the files that are sourced with it
# The sandbox backend: answers CONTRACT.md with the two Python programs of docs/architecture.md,
# the control plane (decides policy, may take its time) and the runtime (carries out a plan).

BACKEND_VERBS=(create run stop restart status list inspect logs exec activate url destroy doctor help version)

SANDBOX_CONTROL=("$VIRT_ROOT/.venv/bin/python3" -I "$VIRT_ROOT/pyhelpers/__main__.py")
SANDBOX_RUNTIME=("$VIRT_ROOT/.venv/bin/python3" -I -S "$VIRT_ROOT/pyhelpers/launch/__main__.py")

# Makes .venv if it is missing or older than its lock file.
sandbox_python() {
    [[ -f $VIRT_ROOT/.venv/.complete && ! $VIRT_ROOT/requirements.lock -nt $VIRT_ROOT/.venv/.complete ]] ||
        "$VIRT_ROOT/bin/bootstrap"
}

# Does the directory have what a run needs, beside its record?
backend_is_whole() {
    [[ -f $1/config/plan ]]
}

backend_create() {
    sandbox_python
    # shellcheck source=lib/backends/sandbox_create.sh
    source "$VIRT_ROOT/lib/backends/sandbox_create.sh"
    sandbox_create "$@"
}

backend_run() {
    local code words busy_port
    sandbox_python
    _sandbox_run "$@"
    if ((code == EXIT_AGAIN)); then
        words=${words%%$'\n'*}
        say "compiling the plan again: ${words#"$VIRT_PROGRAM: $VIRT_VERB: "}"
        _sandbox_recompile
        _sandbox_run "$@"
    fi
    if [[ -n $busy_port ]]; then _sandbox_busy "$busy_port"; fi
    printf '%s' "$words" >&2
    ((code != EXIT_AGAIN)) || code=$EXIT_STATE
    ((code == 0)) || exit "$code"
}

# Sets code, READY_MS, busy_port and words: what the runtime said to people. Its two outputs
# are read as one, because a stale plan and a busy port are ours to word.
_sandbox_run() {
    local answer line
    code=0 words='' busy_port='' READY_MS=''
    output_progress
    answer=$("${SANDBOX_RUNTIME[@]}" run "$ENV_DIR" "$@" 2>&1) || code=$?
    output_progress_end
    while IFS= read -r line; do
        case $line in
            ready_ms=*) READY_MS=${line#*=} ;;
            busy_port=*) busy_port=${line#*=} ;;
            note=*) words+="note: ${line#*=}"$'\n' ;;
            ?*) words+=$line$'\n' ;;
        esac
    done <<<"$answer"
}

# The manifest was edited, or the server's programs moved: a new plan, and what changed.
_sandbox_recompile() {
    local answer line
    answer=$("${AS_OWNER[@]}" "${SANDBOX_CONTROL[@]}" recompile "$ENV_DIR" --base "$VIRT_BASE" "$@")
    owner_give "$ENV_DIR/config" "$ENV_DIR/env" "$ENV_DIR/record" "$ENV_DIR/bin"
    while IFS= read -r line; do
        case $line in
            change=*)
                line=${line#*=}
                say "${line/ /: }"
                ;;
            warning=*) say "warning: ${line#*=}" ;;
        esac
    done <<<"$answer"
    core_fields "$ENV_DIR/record" # its port may be another now
}

# An edited manifest is checked while the server still runs by the old one.
backend_prepare() {
    sandbox_python
    _sandbox_recompile --if-edited
}

_sandbox_busy() {
    local holder
    # As ourselves: root sees every process that may hold it.
    holder=$("${SANDBOX_CONTROL[@]}" port-owner "$1") || true
    die "$EXIT_STATE" "port $1 is in use${holder:+ by $holder}" \
        "$VIRT_PROGRAM create ${FIELDS[engine]} NAME auto"
}

backend_stop() {
    local answer=''
    STOPPED=already
    # A supervisor leaves its state behind only if it was killed.
    [[ -n ${FIELDS[status]-} ]] || return 0
    if [[ -x ${SANDBOX_RUNTIME[0]} ]]; then
        output_progress
        answer=$("${SANDBOX_RUNTIME[@]}" stop "$ENV_DIR" "$@")
        output_progress_end
        STOPPED=${answer##*stopped=}
    elif record_is_alive; then
        _sandbox_kill
        STOPPED=killed
    fi
}

# Without Python: the guest dies with its supervisor (PDEATHSIG).
_sandbox_kill() {
    local tries as_owner=(command)
    # As the owner, whose word the pid is.
    ((EUID != 0)) || as_owner=(setpriv "--reuid=$OWNER_UID" "--regid=$OWNER_GID" --clear-groups --)
    "${as_owner[@]}" kill -TERM "${FIELDS[pid]}" 2>/dev/null || true
    for tries in {1..60}; do
        record_is_alive || return 0
        ((tries != 50)) || "${as_owner[@]}" kill -KILL "${FIELDS[pid]}" 2>/dev/null || true
        sleep 0.1
    done
    die "$EXIT_FAILED" "the supervisor of '$ENV_NAME', process ${FIELDS[pid]}, does not end" "kill -KILL ${FIELDS[pid]}"
}

# Adds to FIELDS what the supervisor says of itself. Nothing, if it does not answer.
backend_status() {
    local answer
    [[ $STATE =~ ^(running|starting|stopping)$ && -x ${SANDBOX_RUNTIME[0]} ]] || return 0
    answer=$("${SANDBOX_RUNTIME[@]}" status "$ENV_DIR") || return 0
    core_answer "$answer"
}

backend_inspect() {
    sandbox_python
    "${AS_OWNER[@]}" "${SANDBOX_CONTROL[@]}" inspect "$ENV_DIR" "$@"
}

backend_doctor() {
    sandbox_python
    exec "${SANDBOX_CONTROL[@]}" doctor "$@"
}

backend_exec() {
    sandbox_python
    exec "${SANDBOX_RUNTIME[@]}" exec "$ENV_DIR" "$@"
}
