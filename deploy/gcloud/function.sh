#!/usr/bin/env bash
# Deploy the function to Cloud Run, try another version of its model on a part of the traffic, roll back, tear down.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=deploy/gcloud/common.sh
source "$ROOT/deploy/gcloud/common.sh"
# shellcheck source=deploy/gcloud/traffic.sh
source "$ROOT/deploy/gcloud/traffic.sh"

OPTIONS='--project --region --name --model-service --model-address --model-name --model-label --cpu --memory --concurrency
--min --max --timeout --deadline --runtime --ingress --network --subnet --api-keys-secret --api-keys-file --env --labels
--invoker --source --build-account --vpc-connector --percent --revision'
NAME=segment MODEL_SERVICE=tf-serving MODEL_ADDRESS='' MODEL_NAME=shapes MODEL_LABEL=stable
CPU=2 MEMORY='' CONCURRENCY=16 MIN=0 MAX=20 TIMEOUT=60 DEADLINE=20 RUNTIME=python313
INGRESS=all NETWORK=default SUBNET='' VPC_CONNECTOR='' API_KEYS_SECRET='' API_KEYS_FILE=''
SOURCE='' BUILD_ACCOUNT='' PERCENT=10 REVISION='' PUBLIC='' LEGACY='' ENV=() INVOKER=()

usage() {
    cat <<'END'
usage: deploy/gcloud/function.sh [COMMAND] --project=ID --region=REGION [OPTION...]

commands
  deploy              build the bundle, deploy it unless it is deployed so already, send it all traffic (default)
  canary              send --percent of the traffic to the model's version labelled canary; --percent=0 ends that
  rollback            send all traffic to the deployment before the serving one, or to --revision; holds until deploy
  delete              delete the function and its service accounts; secret, images and network settings stay

options, as --name=VALUE or --name VALUE
  --project           cloud project; or CLOUDSDK_CORE_PROJECT
  --region            region, such as europe-west4; or CLOUDSDK_RUN_REGION
  --name              the function's name, and its service account's [segment]
  --model-service     Cloud Run service of TensorFlow Serving, asked with an ID token over TLS [tf-serving]
  --model-address     TensorFlow Serving elsewhere: host:port, dns:///host:port; TLS by --env
  --model-name        the model's name there [shapes]
  --model-label       label of the model's version; empty for the latest [stable]
  --cpu               vCPUs of an instance, 1, 2, 4 or 8, with a worker on each [2]
  --memory            of an instance [1Gi, with 4 or 8 vCPUs 2Gi or 4Gi]
  --concurrency       requests at once in an instance; the workers' threads follow from it [16]
  --min, --max        instances [0, 20]
  --timeout           seconds a request may take, at least 10 more than the deadline [60]
  --deadline          seconds for what a request asks of the model: DEADLINE_S [20]
  --runtime           python311, python312 or python313 [python313]
  --ingress           all, internal or internal-and-cloud-load-balancing; callers need leave all the same [all]
  --network, --subnet VPC that all calls go through, by Direct VPC egress [default, its namesake]; with none, or with Cloud
                      NAT, an address on the internet can be called
  --api-keys-secret   secret that holds the API keys, comma-separated
  --api-keys-file     file with the keys, to make that secret from; where they differ they are replaced
  --env               NAME=VALUE, a setting of the function (README.md, Settings); may be repeated
  --labels            KEY=VALUE,... on the service
  --invoker           who may call it: user:, group:, domain: or serviceAccount:...; may be repeated
  --source            deploy this folder of `make bundle` instead of a new one
  --build-account     service account that builds; made, and given the role for it [NAME-build]
  --vpc-connector     Serverless VPC Access connector, with --legacy
  --percent           of the traffic, for canary [10]
  --revision          for rollback

flags
  --public            let everyone call it; without this nobody may but invokers
  --legacy            deploy by `gcloud functions deploy --gen2`: without startup probe, CPU boost, Direct VPC egress
  --dry-run           print every command that a first run would run, and run none
  --help              print this
END
}

check() {
    local pair member
    check_common
    matches --cpu "$CPU" '1|2|4|8' '1, 2, 4 or 8'
    : "${MEMORY:=$((CPU > 2 ? CPU / 2 : 1))Gi}"
    matches --memory "$MEMORY" '[0-9]+(Mi|Gi)' 'a size, such as 1Gi'
    matches --runtime "$RUNTIME" 'python31[123]' 'python311, python312 or python313'
    matches --ingress "$INGRESS" 'all|internal|internal-and-cloud-load-balancing' 'as --help says'
    whole --concurrency "$CONCURRENCY" 1 1000
    whole --max "$MAX" 1 10000
    whole --min "$MIN" 0 "$MAX"
    whole --percent "$PERCENT" 0 100
    whole --deadline "$DEADLINE" 1 3590
    whole --timeout "$TIMEOUT" $((DEADLINE + 10)) 3600
    [[ -z $API_KEYS_FILE || -n $API_KEYS_SECRET ]] || fail '--api-keys-secret must name what --api-keys-file fills, got none'
    [[ -z $API_KEYS_FILE ]] || check_keys
    [[ -z $VPC_CONNECTOR || -n $LEGACY ]] || fail '--legacy must go with --vpc-connector; without it --network does'
    [[ -z $SOURCE || -s $SOURCE/.segment-bundle ]] || fail "--source must be a folder of \`make bundle\`, got '$SOURCE'"
    for pair in ${ENV[@]+"${ENV[@]}"}; do
        [[ $pair =~ ^[A-Z][A-Z0-9_]*= && $pair != *$'\n'* ]] || fail "--env must be NAME=VALUE in one line, got '$pair'"
        [[ $pair != API_KEYS=* ]] || fail '--api-keys-secret must hold the API keys, got them in --env'
    done
    for member in ${INVOKER[@]+"${INVOKER[@]}"}; do
        matches --invoker "$member" '(user|group|domain|serviceAccount):[^ ,]+' 'user:, group:, domain: or serviceAccount:...'
    done
}

# As handler/environ.py reads them: one line, printable, no spaces within a key. Never quoted.
check_keys() {
    local LC_ALL=C text key='[!-+.-~-]+'
    [[ -f $API_KEYS_FILE ]] || fail "--api-keys-file must be a file with keys, got '$API_KEYS_FILE'"
    text=$(cat "$API_KEYS_FILE")
    [[ $text =~ ^\ *$key(\ *,\ *$key)*\ *$ ]] ||
        fail "--api-keys-file must hold printable keys without spaces, comma-separated in one line, got another text in '$API_KEYS_FILE'"
}

# Set KEYS_VERSION: instances keep the version that they started with, so that a new one has to be a new deployment.
keys() {
    [[ -n $API_KEYS_SECRET ]] || return 0
    local there secret=(--project="$PROJECT" --quiet) file=--data-file="$API_KEYS_FILE"
    ask gcloud secrets describe "$API_KEYS_SECRET" --project="$PROJECT" '--format=value(name)'
    there=$ANSWER
    if [[ -n $API_KEYS_FILE && -z $there ]]; then
        run gcloud secrets create "$API_KEYS_SECRET" --replication-policy=automatic "$file" "${secret[@]}"
    elif [[ -n $API_KEYS_FILE ]]; then
        gcloud secrets versions access latest --secret="$API_KEYS_SECRET" "${secret[@]}" | cmp -s - "$API_KEYS_FILE" ||
            run gcloud secrets versions add "$API_KEYS_SECRET" "$file" "${secret[@]}"
    elif [[ -z $there && -z $DRY_RUN ]]; then
        fail "--api-keys-secret must be a secret of $PROJECT, got '$API_KEYS_SECRET'; --api-keys-file makes it from a file"
    fi
    ask gcloud secrets versions describe latest --secret="$API_KEYS_SECRET" --project="$PROJECT" '--format=value(name)'
    KEYS_VERSION=${ANSWER##*/}
    : "${KEYS_VERSION:=1}"
    grant "serviceAccount:$(account "$NAME")" roles/secretmanager.secretAccessor secret "$API_KEYS_SECRET"
}

# A service with internal ingress is reached through the VPC, from a subnet with Private Google Access.
network() {
    [[ $NETWORK != none && -z $LEGACY ]] || return 0
    local subnet=("${SUBNET:=$NETWORK}" --project="$PROJECT" --region="$REGION") compute=(gcloud compute networks subnets)
    ask "${compute[@]}" describe "${subnet[@]}" '--format=value(privateIpGoogleAccess)'
    [[ $ANSWER == True ]] ||
        run "${compute[@]}" update "${subnet[@]}" --enable-private-ip-google-access --quiet
}

# Set SETTINGS to the function's settings as one value of --set-env-vars, between delimiters that none of them holds.
settings() {
    local url pairs delimiter pair
    pairs=("MODEL_NAME=$MODEL_NAME" "MODEL_VERSION_LABEL=$MODEL_LABEL" "DEADLINE_S=$DEADLINE")
    pairs+=("GOOGLE_CLOUD_PROJECT=$PROJECT" "WORKERS=$CPU" "THREADS=$(((CONCURRENCY + CPU - 1) / CPU))")
    if [[ -n $MODEL_ADDRESS ]]; then
        pairs+=("TF_SERVING_ADDRESS=$MODEL_ADDRESS")
    else
        service "$MODEL_SERVICE" status.url
        url=$ANSWER
        if [[ -n $DRY_RUN ]]; then url=https://URL-OF-$MODEL_SERVICE; fi
        [[ $url == https://* ]] ||
            fail "--model-service must be a service of $PROJECT in $REGION, got '$MODEL_SERVICE'; deploy/gcloud/model.sh makes it"
        pairs+=("TF_SERVING_ADDRESS=${url#https://}:443" TF_SERVING_TLS=on "TF_SERVING_AUDIENCE=$url")
    fi
    pairs+=(${ENV[@]+"${ENV[@]}"})
    for delimiter in ',' '|' ';' '#' '~' '@@' '%%' '::::'; do
        [[ ${pairs[*]} != *"$delimiter"* ]] || continue
        SETTINGS=''
        for pair in "${pairs[@]}"; do SETTINGS+=$delimiter$pair; done
        SETTINGS=${SETTINGS#"$delimiter"}
        if [[ $delimiter != ',' ]]; then SETTINGS="^$delimiter^$SETTINGS"; fi
        return 0
    done
    fail '--env must leave one of , | ; # ~ @@ %% :::: to stand between settings, got all of them'
}

deploy() {
    local member tokens='' builder=roles/run.builder apis=(run.googleapis.com cloudbuild.googleapis.com artifactregistry.googleapis.com)
    if [[ -n $API_KEYS_SECRET ]]; then apis+=(secretmanager.googleapis.com); fi
    if [[ -n $LEGACY ]]; then apis+=(cloudfunctions.googleapis.com); elif [[ $NETWORK != none ]]; then apis+=(compute.googleapis.com); fi
    enable_services "${apis[@]}"
    ensure_account "$NAME" 'segment: the function'
    ensure_account "${BUILD_ACCOUNT:=$NAME-build}" 'segment: builds the function'
    if [[ -n $LEGACY ]]; then builder=roles/cloudbuild.builds.builder; fi
    grant "serviceAccount:$(account "$BUILD_ACCOUNT")" "$builder" project
    keys
    network
    settings
    if [[ -z $SOURCE ]]; then
        if [[ $SETTINGS == *TF_SERVING_AUDIENCE=* ]]; then tokens=ARGS=--id-tokens; fi
        run make --no-print-directory -C "$ROOT" bundle ${tokens:+"$tokens"}
    fi
    upload "${SOURCE:=$ROOT/build/function}"
    [[ -n $PUBLIC ]] || check_private
    traffic_to_latest
    for member in ${INVOKER[@]+"${INVOKER[@]}"}; do grant "$member" roles/run.invoker service "$NAME"; done
    if [[ -n $PUBLIC && -z $API_KEYS_SECRET ]]; then say 'everyone may call the function, and it asks for no API key'; fi
    service "$NAME" status.url
    [[ -n $DRY_RUN ]] || say "$NAME answers at $ANSWER"
}

# upload BUNDLE
upload() {
    local command flags bundle=bundle
    flags=(--project="$PROJECT" --region="$REGION" --source="$1" --service-account="$(account "$NAME")")
    flags+=(--build-service-account="projects/$PROJECT/serviceAccounts/$(account "$BUILD_ACCOUNT")")
    flags+=(--cpu="$CPU" --memory="$MEMORY" --concurrency="$CONCURRENCY" --timeout="${TIMEOUT}s")
    flags+=(--min-instances="$MIN" --max-instances="$MAX" --set-env-vars="$SETTINGS")
    if [[ -n $API_KEYS_SECRET ]]; then flags+=(--set-secrets="API_KEYS=$API_KEYS_SECRET:$KEYS_VERSION"); else flags+=(--clear-secrets); fi
    if [[ -n $PUBLIC ]]; then flags+=(--allow-unauthenticated); else flags+=(--no-allow-unauthenticated); fi
    if [[ -n $LEGACY ]]; then
        INGRESS=${INGRESS/#internal-and-cloud-load-balancing/internal-and-gclb} INGRESS=${INGRESS/%internal/internal-only}
        command=(gcloud functions deploy "$NAME" --gen2 --trigger-http --entry-point=segment --runtime="$RUNTIME")
        flags+=(--ingress-settings="$INGRESS")
        if [[ -n $VPC_CONNECTOR ]]; then flags+=(--vpc-connector="$VPC_CONNECTOR" --egress-settings=all); fi
        ask gcloud functions describe "$NAME" --project="$PROJECT" --region="$REGION" '--format=value(labels.segment-deployed,state)'
        if [[ $ANSWER == *$'\tACTIVE' ]]; then ANSWER=${ANSWER%$'\t'*}; else ANSWER=''; fi
    else
        command=(gcloud run deploy "$NAME" --function=segment --base-image="$RUNTIME" --cpu-boost)
        flags+=('--startup-probe=httpGet.path=/health,httpGet.port=8080,periodSeconds=1,timeoutSeconds=1,failureThreshold=60')
        flags+=(--ingress="$INGRESS")
        if [[ $NETWORK == none ]]; then flags+=(--clear-network); else
            flags+=(--network="$NETWORK" --subnet="$SUBNET" --vpc-egress=all-traffic)
        fi
        deployed "$NAME"
    fi
    if [[ -s $1/.segment-bundle ]]; then bundle=$(cut -c1-16 "$1/.segment-bundle"); fi
    deploy_changed "$ANSWER" "$bundle" "${command[@]}" "${flags[@]}"
}

delete() {
    if [[ -n $LEGACY ]]; then
        ask gcloud functions describe "$NAME" --project="$PROJECT" --region="$REGION" '--format=value(name)'
        if [[ -n $DRY_RUN || -n $ANSWER ]]; then
            run gcloud functions delete "$NAME" --project="$PROJECT" --region="$REGION" --quiet
        fi
    else
        delete_service
    fi
    delete_account "$NAME"
    delete_account "${BUILD_ACCOUNT:=$NAME-build}"
}

parse 'deploy canary rollback delete' "${OPTIONS//$'\n'/ }" '--public --legacy --dry-run' "$@"
check
"$COMMAND"
