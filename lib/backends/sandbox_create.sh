# shellcheck shell=bash
# How the sandbox backend fills the directory of a new environment, and makes the template that
# it is layered on.

# sandbox_create STAGING ENGINE NAME PORT FLAGS…
sandbox_create() {
    local staging=$1 engine=$2 name=$3 port=$4 answer code=0 compile
    shift 4
    compile=("${AS_OWNER[@]}" "${SANDBOX_CONTROL[@]}" compile "$staging"
        --engine "$engine" --name "$name" --base "$VIRT_BASE" --uid "$OWNER_UID" --gid "$OWNER_GID")
    [[ -z $port ]] || compile+=(--port "$port")
    answer=$("${compile[@]}" "$@") || code=$?
    if ((code == EXIT_AGAIN)); then
        code=0
        core_answer "$answer"
        _sandbox_template "${FIELDS[missing_template]}" "$engine"
        answer=$("${compile[@]}" "$@") || code=$?
    fi
    ((code == 0)) || exit "$code"
    _sandbox_say_warnings "$answer"
    FIELDS=()
    core_fields "$staging/record"
    case ${FIELDS[layer]} in
        # Never hard links: a server writes into its files in place.
        reflink | copy)
            "${AS_OWNER[@]}" cp -a --reflink=auto -- \
                "$VIRT_BASE/.templates/${FIELDS[template]}/data/." "$staging/data/"
            ;;
    esac
}

_sandbox_say_warnings() {
    local line
    while IFS= read -r line; do
        [[ $line != warning=* ]] || say "warning: ${line#*=}"
    done <<<"$1"
}

# _sandbox_template ID ENGINE: makes the template, unless another create is faster.
_sandbox_template() {
    local id=$1 folder=$VIRT_BASE/.templates label=${1%-*} template answer step steps
    local staging=$folder/.new.$1.$$
    say "making the ${label/-/ } template (once)"
    "${AS_OWNER[@]}" mkdir -p -- "$folder"
    state_stage "$staging"
    template=("${AS_OWNER[@]}" "${SANDBOX_CONTROL[@]}" template "$staging"
        --engine "$2" --base "$VIRT_BASE" --uid "$OWNER_UID" --gid "$OWNER_GID")
    [[ -z ${FLAG["engine-version"]-} ]] || template+=(--engine-version "${FLAG["engine-version"]}")
    answer=$("${template[@]}")
    core_answer "$answer"
    steps=${FIELDS[steps]}
    # The steps run as the owner and write there.
    owner_give "$staging"
    for ((step = 0; step < steps; step++)); do
        _sandbox_step "$staging/init.$step"
    done
    _sandbox_choose_layer "$staging"
    for step in "$staging"/init.* "$staging"/{lower,upper,work}; do state_delete_tree "$step"; done
    owner_give "$staging"
    # Every environment stands on it: it must be on the disk before the first one does.
    sync -f -- "$staging"
    "${AS_OWNER[@]}" mv -T -- "$staging" "$folder/$id" 2>/dev/null || [[ -d $folder/$id ]] ||
        die "$EXIT_FAILED" "cannot move the template to $folder/$id" "ls -ld $folder"
}

# One program of the server's initialisation, in a sandbox of its own. Its words are shown only
# if it fails.
_sandbox_step() {
    local words code=0
    output_progress
    words=$("${SANDBOX_RUNTIME[@]}" once "$1" 2>&1) || code=$?
    output_progress_end
    ((code != 0)) || return 0
    tail -n 12 >&2 <<<"$words"
    # The runtime's own failures are two lines like ours, and their codes mean what ours mean.
    [[ $words != *"$VIRT_PROGRAM: $VIRT_VERB: "* ]] || exit "$code"
    die "$EXIT_FAILED" "the server's initialisation ended with $code" "$VIRT_PROGRAM doctor"
}

# Writes into the template how environments are layered on it: the cheapest way that works here.
_sandbox_choose_layer() {
    local trial=("$1/lower" "$1/upper" "$1/work") layer=copy answer
    "${AS_OWNER[@]}" mkdir -- "${trial[@]}"
    "${AS_OWNER[@]}" tee -- "$1/lower/probe" <<<probe >/dev/null
    owner_give "${trial[@]}"
    if "${AS_OWNER[@]}" cp --reflink=always -- "$1/lower/probe" "$1/upper/copy" 2>/dev/null; then
        layer=reflink
    else
        answer=$("${SANDBOX_RUNTIME[@]}" probe "$1")
        if [[ $answer == overlay=yes ]]; then layer=overlay; fi
    fi
    "${AS_OWNER[@]}" tee -- "$1/layer" <<<"$layer" >/dev/null
}
