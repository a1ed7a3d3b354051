# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is read by the files that are sourced with it
# Who owns an environment, and how root acts in a directory that is not root's: as its owner,
# so that no symbolic link in it can lead root elsewhere.

# The prefix of every command that makes, moves or deletes files. `command` alone: as ourselves.
AS_OWNER=(command)

# Sets OWNER_UID and OWNER_GID for a new environment, and AS_OWNER.
owner_of_new() {
    local facts uid=$EUID gid mode
    OWNER_UID=$EUID OWNER_GID=${GROUPS[0]}
    if [[ -d $VIRT_BASE ]]; then
        facts=$(stat -L -c '%u %g %a' -- "$VIRT_BASE")
        read -r uid gid mode <<<"$facts"
        owner_check_mode "$VIRT_BASE" "$mode"
        ((EUID == 0 || uid == EUID)) ||
            die "$EXIT_STATE" "$VIRT_BASE belongs to uid $uid, and you are uid $EUID" \
                "VIRT_HOME=\$HOME $VIRT_PROGRAM $VIRT_VERB …"
    fi
    ((EUID == 0)) || return 0
    if ((uid != 0)); then
        OWNER_UID=$uid OWNER_GID=$gid
        owner_act_as "$uid" "$gid"
    elif [[ ! -d $VIRT_BASE && ${SUDO_UID-0} =~ ^[1-9][0-9]*$ && ${SUDO_GID-} =~ ^[0-9]+$ ]]; then
        OWNER_UID=$SUDO_UID OWNER_GID=$SUDO_GID
        owner_act_as "$SUDO_UID" "$SUDO_GID"
    else
        # In a base of root's the owner is nobody who could prepare links there for root to follow.
        # In a range that systemd and Debian leave free (systemd's UIDS-GIDS.md, Debian policy 9.2).
        OWNER_UID=${VIRT_GUEST_UID:-60913}
        OWNER_GID=$OWNER_UID
        [[ $OWNER_UID =~ ^[1-9][0-9]{0,8}$ ]] ||
            die "$EXIT_USAGE" "VIRT_GUEST_UID is not a user id: $OWNER_UID" "VIRT_GUEST_UID=60913"
        ! getent passwd "$OWNER_UID" >/dev/null ||
            die "$EXIT_USAGE" "VIRT_GUEST_UID=$OWNER_UID is an account of this host" "VIRT_GUEST_UID=60913"
    fi
}

# Checks that ENV_DIR is ours to act in (FIELDS has its record), sets OWNER_UID, OWNER_GID and
# AS_OWNER.
owner_of_existing() {
    local facts base_uid base_gid base_mode uid gid mode
    [[ ! -L $ENV_DIR ]] || die "$EXIT_STATE" "$ENV_DIR is a symbolic link, not an environment" "ls -ld $ENV_DIR"
    if ! facts=$(stat -c '%u %g %a' -- "$VIRT_BASE/." "$ENV_DIR" 2>/dev/null); then
        [[ -d $ENV_DIR ]] || state_missing # destroyed while we looked
        die "$EXIT_STATE" "$ENV_DIR cannot be examined" "sudo $VIRT_PROGRAM $VIRT_VERB $ENV_NAME"
    fi
    read -r -d '' base_uid base_gid base_mode uid gid mode <<<"$facts" || true
    owner_check_mode "$VIRT_BASE" "$base_mode"
    owner_check_mode "$ENV_DIR" "$mode"
    ((EUID == 0 || uid == EUID)) ||
        die "$EXIT_STATE" "'$ENV_NAME' belongs to uid $uid, and you are uid $EUID" \
            "sudo $VIRT_PROGRAM $VIRT_VERB $ENV_NAME"
    [[ ${FIELDS[uid]-$uid} == "$uid" && ${FIELDS[gid]-$gid} =~ ^[0-9]+$ ]] ||
        die "$EXIT_STATE" "$ENV_DIR belongs to uid $uid, but its record says another" "ls -ln $VIRT_BASE"
    OWNER_UID=$uid OWNER_GID=${FIELDS[gid]-$gid}
    ((EUID == 0 && base_uid != 0)) || return 0
    owner_act_as "$base_uid" "$base_gid"
}

# $1 is a path, $2 its mode in octal.
owner_check_mode() {
    (((8#$2 & 8#022) == 0)) ||
        die "$EXIT_STATE" "$1 can be written by other users (mode $2)" "chmod go-w $1"
}

# Sets AS_OWNER to become UID with GID; with the user's groups and home if it is a known user.
owner_act_as() {
    local entry='' home=/ groups=--clear-groups name
    entry=$(getent passwd "$1") || true
    if [[ -n $entry ]]; then
        IFS=: read -r _ _ _ _ _ home _ <<<"$entry"
        groups=--init-groups
    fi
    # The owner can read the environment of a process of its own: of root's it gets what we need.
    AS_OWNER=(setpriv "--reuid=$1" "--regid=$2" "$groups" -- env -i "HOME=$home")
    for name in $(compgen -e); do
        case $name in
            PATH | LANG | LC_* | TERM | COLUMNS | TMPDIR | NO_COLOR | VIRT_* | PIP_* | SSL_CERT_* | *_proxy | *_PROXY | REQUESTS_CA_BUNDLE)
                AS_OWNER+=("$name=${!name}")
                ;;
        esac
    done
}

# Gives PATH… to the owner, when root made them in a directory of its own.
owner_give() {
    ((EUID == 0)) && [[ ${AS_OWNER[0]} == command ]] || return 0
    # -h: a link is given, never what it points to.
    chown -hR "$OWNER_UID:$OWNER_GID" -- "$@"
}
