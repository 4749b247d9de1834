# What function.sh and model.sh share; sourced, never run. It needs bash 3.2 or later.
# shellcheck shell=bash disable=SC2034,SC2153 # the variables of options belong to the scripts

PROJECT=${CLOUDSDK_CORE_PROJECT:-} REGION=${CLOUDSDK_RUN_REGION:-} LABELS='' DRY_RUN='' COMMAND=deploy

# common_usage MEMORY
common_usage() {
    cat <<END
  --project, --region as CLOUDSDK_CORE_PROJECT and CLOUDSDK_RUN_REGION
  --name              name of the service and of its service account [$NAME]
  --cpu, --memory     vCPUs and memory of an instance [$CPU, $1]
  --concurrency       requests that an instance answers at once [$CONCURRENCY]
  --min, --max        number of instances [$MIN, $MAX]
  --timeout           seconds that a request may take [$TIMEOUT]
  --labels            KEY=VALUE,... on the service
  --dry-run           print every command of a first run, and run none
  --help              print this
END
}

fail() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 2
}

# Print the command as a shell reads it. Run it too, unless this is a dry run.
run() {
    local line
    line=$(printf '%q ' "$@")
    if [[ -n $DRY_RUN ]]; then printf '%s\n' "${line% }" && return; fi
    printf '+ %s\n' "${line% }" >&2
    "$@"
}

# variable --some-option: print SOME_OPTION, which holds the option's value.
variable() {
    tr 'a-z-' 'A-Z_' <<<"${1#--}"
}

# parse COMMANDS OPTIONS FLAGS ARGUMENTS...: set COMMAND and the variables of options and flags. ENV and INVOKER are lists.
parse() {
    local commands=" $1 " options=" ${2//$'\n'/ } " flags=" $3 " name value
    shift 3
    while [[ $# -gt 0 ]]; do
        name=${1%%=*} value=${1#*=}
        if [[ $1 == --help ]]; then usage && exit; fi
        if [[ $commands == *" $1 "* ]]; then
            name=--command
        elif [[ $flags == *" $1 "* ]]; then
            value=1
        elif [[ $options != *" $name "* ]]; then
            fail "an argument must be a command or an option of --help, got '$1'"
        elif [[ $1 != *=* ]]; then
            [[ $# -gt 1 && $2 != --* ]] || fail "$name must have a value, got none"
            value=$2
            shift
        fi
        shift
        case $name in
            --env) ENV+=("$value") ;;
            --invoker) INVOKER+=("$value") ;;
            *) printf -v "$(variable "$name")" '%s' "$value" ;;
        esac
    done
}

# must OPTION REGEX WHAT: set VALUE to the option's value.
must() {
    VALUE=$(variable "$1") VALUE=${!VALUE}
    [[ $VALUE =~ ^($2)$ ]] || fail "$1 must be $3, got '$VALUE'"
}

# must_count OPTION LEAST MOST
must_count() {
    must "$1" '0|[1-9][0-9]{0,5}' "a whole number from $2 to $3"
    ((VALUE >= $2 && VALUE <= $3)) || fail "$1 must be a whole number from $2 to $3, got '$VALUE'"
}

check_common() {
    must --project '([a-z0-9.-]+:)?[a-z][a-z0-9-]+' 'the id of a project (or set CLOUDSDK_CORE_PROJECT)'
    must --region '[a-z]+-[a-z]+[0-9]+' 'a region, such as europe-west4 (or set CLOUDSDK_RUN_REGION)'
    must --name '[a-z][a-z0-9-]{4,21}[a-z0-9]' '6 to 23 lower-case letters, digits and hyphens'
    must --labels '([a-z][a-z0-9_-]*=[a-z0-9_-]*(,|$))*' 'KEY=VALUE,... in lower case'
    must --cpu '1|2|4|8' '1, 2, 4 or 8'
    must --memory '[0-9]+(Mi|Gi)' 'a size, such as 2Gi'
    must_count --concurrency 1 1000
    must_count --max 1 10000
    must_count --min 0 "$MAX"
}

# Run COMMAND. All calls of gcloud take project and region from the environment.
start() {
    run export CLOUDSDK_CORE_PROJECT="$PROJECT" CLOUDSDK_RUN_REGION="$REGION" CLOUDSDK_FUNCTIONS_REGION="$REGION" \
        CLOUDSDK_COMPUTE_REGION="$REGION" CLOUDSDK_CORE_DISABLE_PROMPTS=1
    ACCOUNTS=$(sed -E 's/(.*):(.*)/\2.\1/' <<<"$PROJECT").iam.gserviceaccount.com # DOMAIN:ID is a project in a domain
    must_exist --project projects "$PROJECT"
    "$COMMAND"
}

# exists GROUP... NAME: succeed if the cloud has that. An answer other than yes or no ends the script.
exists() {
    local said
    [[ -z $DRY_RUN ]] || return 1
    ! said=$(gcloud "${@:1:$#-1}" describe "${!#}" 2>&1 >/dev/null) || return 0
    grep -qiE 'not.?found|cannot find|(does|may) not exist|404' <<<"$said" || fail "gcloud must describe ${!#}, got: $said"
    return 1
}

# must_exist OPTION GROUP... NAME
must_exist() {
    [[ -n $DRY_RUN ]] || exists "${@:2}" || fail "$1 must name what is there already, got '${!#}'"
}

# remove GROUP... NAME
remove() {
    if [[ -n $DRY_RUN ]] || exists "$@"; then run gcloud "${@:1:$#-1}" delete "${!#}"; fi
}

# grant MEMBER ROLE GROUP... NAME: try again, because some parts of the cloud learn of a new account only after seconds.
grant() {
    local left=6
    until run gcloud "${@:3:$#-3}" add-iam-policy-binding "${!#}" --member="$1" --role="$2" --condition=None --format=none; do
        ((--left)) || fail "$1 must get $2, got a refusal 6 times"
        sleep "${SEGMENT_RETRY_S:-5}"
    done
}

# ensure_account ACCOUNT TITLE
ensure_account() {
    exists iam service-accounts "$1@$ACCOUNTS" || run gcloud iam service-accounts create "$1" --display-name="$2"
}

# remove_accounts ACCOUNT...: keep them if the service of that name in another region uses them.
remove_accounts() {
    local account others=''
    [[ -n $DRY_RUN ]] || others=$(gcloud run services list --filter="metadata.name=$NAME" '--format=value(metadata.name)')
    for account in "$@"; do [[ -n $others ]] || remove iam service-accounts "$account@$ACCOUNTS"; done
}

# deploy_service COMMAND...: with the flags that both services have.
deploy_service() {
    run "$@" --service-account="$NAME@$ACCOUNTS" --cpu="$CPU" --memory="$MEMORY" --concurrency="$CONCURRENCY" \
        --timeout="${TIMEOUT}s" --min-instances="$MIN" --max-instances="$MAX" \
        --update-labels="${LABELS:+${LABELS%,},}segment-made-by=deploy"
}

# gcloud only warns if it cannot close a service that was public.
check_private() {
    local policy=''
    [[ -n $DRY_RUN ]] || policy=$(gcloud run services get-iam-policy "$NAME")
    [[ $policy != *all*Users* ]] || fail "$NAME must be private, got a policy that lets everyone call it: $policy"
}
