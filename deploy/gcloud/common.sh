# What function.sh and model.sh share; sourced, never run. For bash from 3.2 on.
# shellcheck shell=bash

ME=$(basename "$0")
PROJECT=${CLOUDSDK_CORE_PROJECT:-} REGION=${CLOUDSDK_RUN_REGION:-}
DRY_RUN='' LABELS='' NAME='' COMMAND=''

fail() {
    printf '%s: %s\n' "$ME" "$*" >&2
    exit 2
}

say() {
    printf '%s: %s\n' "$ME" "$*" >&2
}

# Print a command as a shell reads it back.
show() {
    local word line=''
    for word in "$@"; do line+=" $(printf '%q' "$word")"; done
    printf '%s\n' "${line# }"
}

# Run a command that changes something; with --dry-run only print it.
run() {
    if [[ -n $DRY_RUN ]]; then
        show "$@"
    else
        printf '+ %s\n' "$(show "$@")" >&2
        "$@"
    fi
}

# Print what is there, or nothing. With --dry-run nothing is.
ask() {
    [[ -n $DRY_RUN ]] || "$@" 2>/dev/null || true
}

# parse COMMANDS OPTIONS FLAGS ARGUMENTS...: set COMMAND, and for --some-option VALUE the variable SOME_OPTION. A variable
# that is an array collects; a flag is set to 1.
parse() {
    local commands=" $1 " options=" $2 " flags=" $3 " name variable
    shift 3
    COMMAND=${commands# } COMMAND=${COMMAND%% *}
    if [[ ${1:-} != -* && -n ${1:-} ]]; then
        [[ $commands == *" $1 "* ]] || fail "the command must be one of$commands, got '$1'; see --help"
        COMMAND=$1
        shift
    fi
    while [[ $# -gt 0 ]]; do
        name=${1%%=*}
        variable=$(printf '%s' "${name#--}" | tr 'a-z-' 'A-Z_')
        if [[ $name == --help ]]; then
            usage
            exit 0
        elif [[ $flags == *" $name "* && $1 == "$name" ]]; then
            printf -v "$variable" 1
            shift
            continue
        fi
        [[ $options == *" $name "* ]] || fail "an option must be one of --help, got '$1'"
        if [[ $1 == *=* ]]; then
            set -- "$name" "${1#*=}" "${@:2}"
        elif [[ $# -lt 2 || $2 == --* ]]; then
            fail "$name must have a value, got none; see --help"
        fi
        case $variable in
            ENV) ENV+=("$2") ;;
            INVOKER) INVOKER+=("$2") ;;
            *) printf -v "$variable" '%s' "$2" ;;
        esac
        shift 2
    done
}

# matches OPTION VALUE REGEX WHAT
matches() {
    [[ $2 =~ ^($3)$ ]] || fail "$1 must be $4, got '$2'"
}

# whole OPTION VALUE LEAST MOST
whole() {
    matches "$1" "$2" '[0-9]{1,6}' "a whole number from $3 to $4"
    ((10#$2 >= $3 && 10#$2 <= $4)) || fail "$1 must be a whole number from $3 to $4, got '$2'"
}

check_common() {
    [[ -n $PROJECT ]] || fail '--project, or CLOUDSDK_CORE_PROJECT, must name the cloud project, got none'
    [[ -n $REGION ]] || fail '--region, or CLOUDSDK_RUN_REGION, must name the region, such as europe-west4, got none'
    matches --project "$PROJECT" '[a-z0-9.:-]+' 'the id of a project'
    matches --region "$REGION" '[a-z]+-[a-z]+[0-9]+' 'a region, such as europe-west4'
    matches --name "$NAME" '[a-z][a-z0-9-]{4,28}[a-z0-9]' '6 to 30 lower-case letters, digits and hyphens'
    matches --labels "$LABELS" '([a-z][a-z0-9_-]*=[a-z0-9_-]*(,|$))*' 'KEY=VALUE,... in lower case'
    [[ -z $DRY_RUN ]] || return 0
    command -v gcloud >/dev/null || fail 'gcloud must be on the PATH, got none: https://cloud.google.com/sdk'
    gcloud projects describe "$PROJECT" '--format=value(projectId)' >/dev/null ||
        fail "--project must be one that the account of gcloud may use, got '$PROJECT'"
}

enable_services() {
    local enabled service missing=()
    enabled=$(ask gcloud services list --enabled --project="$PROJECT" '--format=value(config.name)')
    for service in "$@"; do
        grep -qxF "$service" <<<"$enabled" || missing+=("$service")
    done
    [[ ${#missing[@]} -eq 0 ]] || run gcloud services enable "${missing[@]}" --project="$PROJECT" --quiet
}

# account NAME: the e-mail address of a service account of the project.
account() {
    printf '%s@%s.iam.gserviceaccount.com' "$1" "$PROJECT"
}

account_is_there() {
    [[ -n $(ask gcloud iam service-accounts describe "$(account "$1")" --project="$PROJECT" '--format=value(email)') ]]
}

# ensure_account NAME TITLE
ensure_account() {
    account_is_there "$1" ||
        run gcloud iam service-accounts create "$1" --display-name="$2" --project="$PROJECT" --quiet
}

# grant MEMBER ROLE secret|bucket|service TARGET
grant() {
    local command target
    case $3 in
        secret) command=(gcloud secrets) target=("$4" --project="$PROJECT") ;;
        bucket) command=(gcloud storage buckets) target=("gs://$4") ;;
        service) command=(gcloud run services) target=("$4" --project="$PROJECT" --region="$REGION") ;;
    esac
    [[ -n $(ask "${command[@]}" get-iam-policy "${target[@]}" '--flatten=bindings[].members' \
        --filter="bindings.members='$1' AND bindings.role='$2'" '--format=value(bindings.role)') ]] ||
        run "${command[@]}" add-iam-policy-binding "${target[@]}" --member="$1" --role="$2" --quiet
}

# service NAME FIELD: what that Cloud Run service has there.
service() {
    ask gcloud run services describe "$1" --project="$PROJECT" --region="$REGION" --format="value($2)"
}

# deploy_changed BEFORE SOURCE COMMAND...: deploy, unless the mark BEFORE is that of the same source and the same command.
deploy_changed() {
    local mark
    mark=$2-$(printf '%s\0' "${@:3}" | cksum | cut -d' ' -f1)
    if [[ $1 == "$mark" ]]; then
        say "$NAME is deployed so already"
    else
        run "${@:3}" --update-labels="${LABELS:+${LABELS%,},}segment-deployed=$mark" --quiet
    fi
}

# Delete the service NAME and its account, as far as they are there.
delete_both() {
    if [[ -n $DRY_RUN || -n $(service "$NAME" metadata.name) ]]; then
        run gcloud run services delete "$NAME" --project="$PROJECT" --region="$REGION" --quiet
    fi
    if [[ -n $DRY_RUN ]] || account_is_there "$NAME"; then
        run gcloud iam service-accounts delete "$(account "$NAME")" --project="$PROJECT" --quiet
    fi
}
