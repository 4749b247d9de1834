# What function.sh and model.sh share; sourced, never run. For bash from 3.2 on.
# shellcheck shell=bash

ME=$(basename "$0")
PROJECT=${CLOUDSDK_CORE_PROJECT:-} REGION=${CLOUDSDK_RUN_REGION:-}
DRY_RUN='' LABELS='' NAME='' COMMAND='' ANSWER=''
MISSING='not.?found|cannot find|does not exist|may not exist|matched no|404'
RETRIES=6 RETRY_S=${SEGMENT_RETRY_S:-5}

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

# Set ANSWER to what a command prints about something, or to nothing where that is not there. With --dry-run nothing is.
ask() {
    local complaint
    ANSWER=''
    [[ -z $DRY_RUN ]] || return 0
    complaint=$(mktemp)
    if ! ANSWER=$("$@" 2>"$complaint"); then
        ANSWER=''
        grep -qiE "$MISSING" "$complaint" || fail "$(show "$@") must answer, got: $(cat "$complaint"; rm -f "$complaint")"
    fi
    rm -f "$complaint"
}

# parse COMMANDS OPTIONS FLAGS ARGUMENTS...: set COMMAND, and for --some-option VALUE the variable SOME_OPTION. ENV and
# INVOKER collect; a flag is set to 1.
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
    if ! [[ $2 =~ ^(0|[1-9][0-9]{0,5})$ ]] || (($2 < $3 || $2 > $4)); then
        fail "$1 must be a whole number from $3 to $4, got '$2'"
    fi
}

check_common() {
    [[ -n $PROJECT ]] || fail '--project, or CLOUDSDK_CORE_PROJECT, must name the cloud project, got none'
    [[ -n $REGION ]] || fail '--region, or CLOUDSDK_RUN_REGION, must name the region, such as europe-west4, got none'
    matches --project "$PROJECT" '([a-z0-9.-]+:)?[a-z][a-z0-9-]+' 'the id of a project'
    matches --region "$REGION" '[a-z]+-[a-z]+[0-9]+' 'a region, such as europe-west4'
    matches --name "$NAME" '[a-z][a-z0-9-]{4,21}[a-z0-9]' '6 to 23 lower-case letters, digits and hyphens'
    matches --labels "$LABELS" '([a-z][a-z0-9_-]*=[a-z0-9_-]*(,|$))*' 'KEY=VALUE,... in lower case'
    [[ -z $DRY_RUN ]] || return 0
    command -v gcloud >/dev/null || fail 'gcloud must be on the PATH, got none: https://cloud.google.com/sdk'
    gcloud projects describe "$PROJECT" '--format=value(projectId)' >/dev/null ||
        fail "--project must be one that the account of gcloud may use, got '$PROJECT'"
}

enable_services() {
    local api missing=()
    ask gcloud services list --enabled --project="$PROJECT" '--format=value(config.name)'
    for api in "$@"; do
        grep -qxF "$api" <<<"$ANSWER" || missing+=("$api")
    done
    [[ ${#missing[@]} -eq 0 ]] || run gcloud services enable "${missing[@]}" --project="$PROJECT" --quiet
}

# account NAME: the e-mail address of a service account of the project.
account() {
    local domain=${PROJECT%%:*} # of a project in a domain, example.com:project
    if [[ $domain == "$PROJECT" ]]; then domain=''; else domain=.$domain; fi
    printf '%s@%s%s.iam.gserviceaccount.com' "$1" "${PROJECT#*:}" "$domain"
}

# ensure_account NAME TITLE
ensure_account() {
    ask gcloud iam service-accounts describe "$(account "$1")" --project="$PROJECT" '--format=value(email)'
    [[ -n $ANSWER ]] || run gcloud iam service-accounts create "$1" --display-name="$2" --project="$PROJECT" --quiet
}

# grant MEMBER ROLE project|secret|bucket|service [TARGET]
grant() {
    local command target left=$RETRIES
    case $3 in
        project) command=(gcloud projects) target=("$PROJECT") ;;
        secret) command=(gcloud secrets) target=("$4" --project="$PROJECT") ;;
        bucket) command=(gcloud storage buckets) target=("gs://$4") ;;
        service) command=(gcloud run services) target=("$4" --project="$PROJECT" --region="$REGION") ;;
    esac
    ask "${command[@]}" get-iam-policy "${target[@]}" '--flatten=bindings[].members' '--format=value(bindings.role,bindings.members)'
    if ! grep -qxF "$2"$'\t'"$1" <<<"$ANSWER"; then
        command+=(add-iam-policy-binding "${target[@]}" --member="$1" --role="$2")
        if [[ $3 == project ]]; then command+=(--condition=None); fi
        # An account that was made a moment ago is not known everywhere yet.
        until run "${command[@]}" --format=none --quiet; do
            ((--left)) || fail "$1 must be given $2, got a refusal $RETRIES times"
            sleep "$RETRY_S"
        done
    fi
}

# service NAME FIELD: set ANSWER to what that Cloud Run service has there.
service() {
    ask gcloud run services describe "$1" --project="$PROJECT" --region="$REGION" --format="value($2)"
}

# deployed NAME: set ANSWER to the mark of its last deployment, or to nothing where the revision did not become ready.
deployed() {
    service "$1" 'metadata.labels.segment-deployed,status.latestCreatedRevisionName,status.latestReadyRevisionName'
    local created ready
    created=$(cut -f2 <<<"$ANSWER") ready=$(cut -f3 <<<"$ANSWER") ANSWER=$(cut -f1 <<<"$ANSWER")
    if [[ -z $created || $created != "$ready" ]]; then ANSWER=''; fi
}

# deploy_changed BEFORE SOURCE COMMAND...: deploy, unless the mark BEFORE is that of the same source and the same command.
deploy_changed() {
    local mark
    mark=$2-$(printf '%s\0' "$LABELS" "${@:3}" | cksum | cut -d' ' -f1)
    if [[ $1 == "$mark" ]]; then
        say "$NAME is deployed so already"
    else
        run "${@:3}" --update-labels="${LABELS:+${LABELS%,},}segment-deployed=$mark" --quiet
    fi
}

# A refusal to close a service is only a warning of gcloud's.
check_private() {
    ask gcloud run services get-iam-policy "$NAME" --project="$PROJECT" --region="$REGION" '--flatten=bindings[].members' \
        '--format=value(bindings.role,bindings.members)'
    ! grep -qE 'all(Authenticated)?Users' <<<"$ANSWER" || fail "$NAME must be private, got a policy that lets everyone in:
$ANSWER"
}

# Delete the service NAME with its account, which may serve one of that name in another region, too.
delete_service() {
    service "$NAME" metadata.name
    if [[ -n $DRY_RUN || -n $ANSWER ]]; then
        run gcloud run services delete "$NAME" --project="$PROJECT" --region="$REGION" --quiet
    fi
}

delete_account() {
    ask gcloud run services list --project="$PROJECT" --filter="metadata.name=$NAME" '--format=value(metadata.name)'
    if [[ -n $ANSWER ]]; then
        say "the account $1 stays, for $NAME in another region"
        return 0
    fi
    ask gcloud iam service-accounts describe "$(account "$1")" --project="$PROJECT" '--format=value(email)'
    if [[ -n $DRY_RUN || -n $ANSWER ]]; then
        run gcloud iam service-accounts delete "$(account "$1")" --project="$PROJECT" --quiet
    fi
}
