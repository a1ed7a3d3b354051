# shellcheck shell=bash
# The only file that changes an environment's directory as a whole: finds it, locks it, makes
# it, puts it in place, deletes it.

# Directories that vanish if we end before they are in their place.
STAGED=()

state_check_name() {
    record_is_name "$1" && return 0
    core_show "$1"
    die "$EXIT_USAGE" "not a name: $REPLY: 1 to 40 letters, digits, '.', '_' or '-', a letter or digit first, no '..'" \
        "$VIRT_PROGRAM help $VIRT_VERB"
}

# Finds the environment NAME: sets ENV_NAME, ENV_DIR, FIELDS, STATE and who acts in it.
state_find() {
    ENV_NAME=$1 ENV_DIR=$VIRT_BASE/$1
    state_check_name "$1"
    [[ -d $ENV_DIR || -L $ENV_DIR ]] || state_missing
    record_read "$ENV_DIR"
    owner_of_existing
    if [[ ! -f $ENV_DIR/.virt-owned ]]; then
        [[ -d $ENV_DIR ]] || state_missing # destroyed while we looked
        die "$EXIT_STATE" "$ENV_DIR is not an environment: it has no .virt-owned marker" "$VIRT_PROGRAM list"
    fi
}

state_missing() {
    record_names
    core_nearest "$ENV_NAME" ${ENVIRONMENTS[@]+"${ENVIRONMENTS[@]}"}
    die "$EXIT_MISSING" "no environment '$ENV_NAME' in $VIRT_BASE${REPLY:+: did you mean $REPLY?}" "$VIRT_PROGRAM list"
}

# As state_find, and alone: waits up to SECONDS for another command to end. The descriptor is
# inherited, so a child that outlives us keeps the lock.
state_open() {
    local lock
    state_find "$1"
    exec {lock}<"$ENV_DIR" || state_missing
    flock -w "$2" "$lock" ||
        die "$EXIT_STATE" "'$ENV_NAME' is busy: another command is changing it" "$VIRT_PROGRAM status $ENV_NAME"
    # It may have been destroyed, and made again, while we waited.
    [[ $ENV_DIR -ef /proc/self/fd/$lock ]] || state_missing
    record_read "$ENV_DIR"
}

state_refuse_damaged() {
    [[ $STATE != damaged ]] ||
        die "$EXIT_STATE" "'$ENV_NAME' is damaged: $ENV_DIR lacks its record or its plan" \
            "$VIRT_PROGRAM destroy $ENV_NAME"
}

# Begins the environment NAME: STAGING is an empty directory that becomes it at state_commit.
state_begin() {
    ENV_NAME=$1 ENV_DIR=$VIRT_BASE/$1
    state_check_name "$1"
    umask 077
    owner_of_new
    [[ ! -e $ENV_DIR && ! -L $ENV_DIR ]] || state_taken
    if [[ ! -d $VIRT_BASE ]]; then
        "${AS_OWNER[@]}" mkdir -p -m 755 -- "$VIRT_BASE" ||
            die "$EXIT_FAILED" "cannot make $VIRT_BASE" "VIRT_HOME=\$HOME $VIRT_PROGRAM $VIRT_VERB …"
        "${AS_OWNER[@]}" tee -- "$VIRT_BASE/.gitignore" <<<'*' >/dev/null
    fi
    _state_sweep
    trap _state_abandon EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
    STAGING=$VIRT_BASE/.new.$1.$$
    state_stage "$STAGING"
}

# Makes a directory that the sweep leaves alone while we, or a child of ours, live.
state_stage() {
    local lock
    "${AS_OWNER[@]}" mkdir -- "$1"
    STAGED+=("$1")
    exec {lock}<"$1"
    flock -n "$lock"
}

state_commit() {
    owner_give "$STAGING"
    # On the disk before it has its name: a power cut leaves the environment whole or not at all.
    "${AS_OWNER[@]}" sync -- "$STAGING"/{record,env} "$STAGING"/config/*
    # -T: never into a directory of that name, and rename(2) replaces none that has files.
    "${AS_OWNER[@]}" mv -T -- "$STAGING" "$ENV_DIR" 2>/dev/null || state_taken
}

state_taken() {
    die "$EXIT_STATE" "'$ENV_NAME' exists already in $VIRT_BASE" "$VIRT_PROGRAM run $ENV_NAME"
}

# Deletes the environment's directory, and nothing that we did not create.
state_remove() {
    [[ -f $ENV_DIR/.virt-owned ]] ||
        die "$EXIT_STATE" "refusing to delete $ENV_DIR: it has no .virt-owned marker" "$VIRT_PROGRAM list"
    local dying=$VIRT_BASE/.dying.$ENV_NAME.$$
    # Renamed first: a half-done delete must never look like an environment.
    "${AS_OWNER[@]}" mv -T -- "$ENV_DIR" "$dying"
    state_delete_tree "$dying"
}

state_delete_tree() {
    # Overlay leaves its work directory unreadable.
    [[ ! -d $1/work || -L $1/work ]] || "${AS_OWNER[@]}" chmod -R u+rwx -- "$1/work"
    "${AS_OWNER[@]}" rm -rf --one-file-system -- "$1"
}

_state_abandon() {
    local dir
    for dir in ${STAGED[@]+"${STAGED[@]}"}; do
        [[ ! -d $dir ]] || state_delete_tree "$dir"
    done
}

# Deletes what killed commands left: their process is gone, and so is every child of it that
# holds the directory's lock.
_state_sweep() {
    local left lock
    for left in "$VIRT_BASE"/.{new,dying}.* "$VIRT_BASE"/.templates/.new.*; do
        [[ -d $left && ! -L $left && ! -d /proc/${left##*.} ]] || continue
        # Another sweep may be faster: what is gone is no failure.
        { exec {lock}<"$left"; } 2>/dev/null || continue
        if flock -n "$lock"; then state_delete_tree "$left" 2>/dev/null || true; fi
        exec {lock}<&-
    done
}
