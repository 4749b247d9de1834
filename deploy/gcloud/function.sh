#!/usr/bin/env bash
# Deploy the function to Cloud Run, try another version of its model on a part of the traffic, roll back, tear down.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=deploy/gcloud/common.sh
source "$ROOT/deploy/gcloud/common.sh"

OPTIONS='--project --region --name --model-service --model-address --model-name --model-label --cpu --memory --concurrency
--min --max --timeout --deadline --runtime --ingress --network --subnet --api-keys-secret --api-keys-file --env --labels
--invoker --source --build-account --vpc-connector --percent --revision'
NAME=segment MODEL_SERVICE=tf-serving MODEL_ADDRESS='' MODEL_NAME=shapes MODEL_LABEL=stable
CPU=2 MEMORY='' CONCURRENCY=16 MIN=0 MAX=20 TIMEOUT=60 DEADLINE=20 RUNTIME=python313
INGRESS=all NETWORK=default SUBNET='' VPC_CONNECTOR='' API_KEYS_SECRET='' API_KEYS_FILE=''
SOURCE='' BUILD_ACCOUNT='' PERCENT=10 REVISION='' PUBLIC='' LEGACY='' ENV=() INVOKER=()

usage() {
    cat <<END
usage: deploy/gcloud/function.sh [COMMAND] --project=ID --region=REGION [OPTION...]

commands
  deploy              build and deploy the function, and send it all traffic (default)
  canary              send --percent of the traffic to the model's version labelled canary; --percent=0 ends that
  rollback            send all traffic to the deployment before the serving one, or to --revision; holds until deploy
  delete              delete the function, and its service accounts unless another region uses them

options, as --name=VALUE or --name VALUE
  --model-service     Cloud Run service of TensorFlow Serving, asked with an ID token over TLS [$MODEL_SERVICE]
  --model-address     TensorFlow Serving elsewhere: host:port, dns:///host:port; TLS by --env
  --model-name        the model's name there [$MODEL_NAME]
  --model-label       label of the model's version; empty for the latest [$MODEL_LABEL]
  --deadline          DEADLINE_S, at least 10 less than --timeout [$DEADLINE]
  --env               NAME=VALUE, a setting of the function (handler/README.md); may be repeated
  --api-keys-secret   secret that holds the API keys, comma-separated
  --api-keys-file     file with the keys, which become the newest version of that secret
  --invoker           who may call it: user:, group:, domain: or serviceAccount:...; may be repeated
  --public            let everyone call it
  --ingress           all, internal or internal-and-cloud-load-balancing [$INGRESS]
  --network, --subnet VPC and subnet for all calls of the function; --network=none for none [$NETWORK, its namesake]
  --runtime           python311, python312 or python313 [$RUNTIME]
  --source            a folder of \`make bundle\` [a new one]
  --build-account     service account that builds; made, with the role for it [NAME-build]
  --percent           percentage of the traffic for canary [$PERCENT]
  --revision          revision for rollback
  --legacy            use \`gcloud functions deploy --gen2\`: no startup probe, CPU boost or Direct VPC egress
  --vpc-connector     Serverless VPC Access connector, with --legacy
END
    common_usage '1Gi; 2Gi with 4 vCPUs, 4Gi with 8'
}

check() {
    local given
    : "${MEMORY:=$((CPU > 2 ? CPU / 2 : 1))Gi}" "${BUILD_ACCOUNT:=$NAME-build}" "${SUBNET:=$NETWORK}"
    check_common
    must --runtime 'python31[123]' 'python311, python312 or python313'
    must --ingress 'all|internal|internal-and-cloud-load-balancing' 'all, internal or internal-and-cloud-load-balancing'
    must_count --percent 0 100
    must_count --deadline 1 3590
    must_count --timeout $((DEADLINE + 10)) 3600
    [[ -z $API_KEYS_FILE ]] || check_keys
    [[ -z $VPC_CONNECTOR || -n $LEGACY ]] || fail "--vpc-connector must come with --legacy, got '$VPC_CONNECTOR' alone"
    [[ -z $SOURCE || -s $SOURCE/.segment-bundle ]] || fail "--source must be a folder of \`make bundle\`, got '$SOURCE'"
    for given in ${ENV[@]+"${ENV[@]}"}; do
        [[ $given != API_KEYS=* ]] || fail '--api-keys-secret must hold the API keys, got them in --env'
        [[ $given =~ ^[A-Z][A-Z0-9_]*= && $given != *$'\n'* && $given != *'@:'* ]] ||
            fail "--env must be NAME=VALUE in one line without '@:', got '$given'"
    done
    for given in ${INVOKER[@]+"${INVOKER[@]}"}; do
        [[ $given =~ ^(user|group|domain|serviceAccount):[^\ ,]+$ ]] ||
            fail "--invoker must be user:, group:, domain: or serviceAccount:..., got '$given'"
    done
}

# The function takes the same keys (handler/config.py). The error must not quote them.
check_keys() {
    local LC_ALL=C key='[!-+.-~-]+'
    [[ -n $API_KEYS_SECRET ]] || fail '--api-keys-secret must name a secret for --api-keys-file, got none'
    [[ -f $API_KEYS_FILE ]] || fail "--api-keys-file must be a file with keys, got '$API_KEYS_FILE'"
    [[ $(cat "$API_KEYS_FILE") =~ ^\ *$key(\ *,\ *$key)*\ *$ ]] ||
        fail "--api-keys-file must hold printable keys without spaces, comma-separated in one line, got others in '$API_KEYS_FILE'"
}

# Set SETTINGS to a value for --set-env-vars. Its separator is @: because values may have commas.
settings() {
    local url=https://URL-OF-$MODEL_SERVICE pairs
    pairs=("MODEL_NAME=$MODEL_NAME" "MODEL_VERSION_LABEL=$MODEL_LABEL" "DEADLINE_S=$DEADLINE")
    pairs+=("GOOGLE_CLOUD_PROJECT=$PROJECT" "WORKERS=$CPU")
    # A worker may get all requests. Each makes its share of the calls.
    pairs+=("THREADS=$((CONCURRENCY + 2))" "MODEL_CONCURRENCY=$(((CONCURRENCY + CPU - 1) / CPU))")
    if [[ -n $MODEL_ADDRESS ]]; then
        pairs+=("TF_SERVING_ADDRESS=$MODEL_ADDRESS")
    else
        must_exist --model-service run services "$MODEL_SERVICE"
        [[ -n $DRY_RUN ]] || url=$(gcloud run services describe "$MODEL_SERVICE" '--format=value(status.url)')
        pairs+=("TF_SERVING_ADDRESS=${url#https://}:443" TF_SERVING_TLS=on "TF_SERVING_AUDIENCE=$url")
    fi
    SETTINGS=$(printf '@:%s' "${pairs[@]}" ${ENV[@]+"${ENV[@]}"})
    SETTINGS="^@:^${SETTINGS#@:}"
}

# The keys go from the file into the secret, and no command line has them.
keys() {
    local secret=$API_KEYS_SECRET
    if [[ -n $API_KEYS_FILE ]]; then
        exists secrets "$secret" || run gcloud secrets create "$secret" --replication-policy=automatic
        if [[ -n $DRY_RUN ]] || ! gcloud secrets versions access latest --secret="$secret" 2>/dev/null | cmp -s - "$API_KEYS_FILE"; then
            run gcloud secrets versions add "$secret" --data-file="$API_KEYS_FILE"
        fi
    fi
    grant "serviceAccount:$NAME@$ACCOUNTS" roles/secretmanager.secretAccessor secrets "$secret"
}

deploy() {
    local flags given extras='' builder=roles/run.builder network=''
    [[ -z $API_KEYS_SECRET || -n $API_KEYS_FILE ]] || must_exist --api-keys-secret secrets "$API_KEYS_SECRET"
    settings
    if [[ -n $LEGACY ]]; then builder=roles/cloudbuild.builds.builder; elif [[ $NETWORK != none ]]; then network=$NETWORK; fi

    run gcloud services enable run.googleapis.com cloudbuild.googleapis.com artifactregistry.googleapis.com \
        ${API_KEYS_SECRET:+secretmanager.googleapis.com} ${network:+compute.googleapis.com} ${LEGACY:+cloudfunctions.googleapis.com}
    ensure_account "$NAME" 'segment: the function'
    ensure_account "$BUILD_ACCOUNT" 'segment: builds the function'
    grant "serviceAccount:$BUILD_ACCOUNT@$ACCOUNTS" "$builder" projects "$PROJECT"
    [[ -z $API_KEYS_SECRET ]] || keys
    # Cloud Run hides an internal service from callers outside such a subnet.
    [[ -z $network ]] || run gcloud compute networks subnets update "$SUBNET" --enable-private-ip-google-access
    [[ $SETTINGS != *TF_SERVING_AUDIENCE=* ]] || extras=--id-tokens
    [[ ! $SETTINGS =~ IMAGE_KINDS=[^@]*heic ]] || extras="${extras:+$extras }--heic"
    [[ -n $SOURCE ]] || run make --no-print-directory -C "$ROOT" bundle ${extras:+"ARGS=$extras"}

    flags=(--source="${SOURCE:-$ROOT/build/function}" --set-env-vars="$SETTINGS")
    flags+=(--build-service-account="projects/$PROJECT/serviceAccounts/$BUILD_ACCOUNT@$ACCOUNTS")
    if [[ -n $API_KEYS_SECRET ]]; then flags+=(--set-secrets="API_KEYS=$API_KEYS_SECRET:latest"); else flags+=(--clear-secrets); fi
    if [[ -n $PUBLIC ]]; then flags+=(--allow-unauthenticated); else flags+=(--no-allow-unauthenticated); fi
    if [[ -n $LEGACY ]]; then
        INGRESS=${INGRESS/#internal-and-cloud-load-balancing/internal-and-gclb}
        flags+=(--region="$REGION" --runtime="$RUNTIME" --ingress-settings="${INGRESS/%internal/internal-only}")
        [[ -z $VPC_CONNECTOR ]] || flags+=(--vpc-connector="$VPC_CONNECTOR" --egress-settings=all)
        deploy_service gcloud functions deploy "$NAME" --gen2 --trigger-http --entry-point=segment "${flags[@]}"
    else
        if [[ -z $network ]]; then flags+=(--clear-network); else flags+=(--network="$network" --subnet="$SUBNET" --vpc-egress=all-traffic); fi
        flags+=('--startup-probe=httpGet.path=/health,httpGet.port=8080,periodSeconds=1,timeoutSeconds=1,failureThreshold=60')
        deploy_service gcloud run deploy "$NAME" --function=segment --base-image="$RUNTIME" --cpu-boost --ingress="$INGRESS" "${flags[@]}"
    fi
    run gcloud run services update-traffic "$NAME" --to-latest --remove-tags=canary
    for given in ${INVOKER[@]+"${INVOKER[@]}"}; do grant "$given" roles/run.invoker run services "$NAME"; done
    [[ -n $PUBLIC ]] || check_private
    [[ -z $PUBLIC || -n $API_KEYS_SECRET ]] || printf 'everyone may call the function, and it asks for no API key\n' >&2
}

# Set SERVING to the revision that has the traffic apart from a canary, CANARY to the canary or nothing, LATEST to the
# newest revision that is ready.
shares() {
    local rows revision percent tag latest
    SERVING=SERVING LATEST=SERVING CANARY=''
    [[ -z $DRY_RUN ]] || return 0
    rows=$(gcloud run services describe "$NAME" '--flatten=status.traffic[]' '--format=value[separator="|"](
        status.traffic.revisionName, status.traffic.percent, status.traffic.tag, status.latestReadyRevisionName)')
    while IFS='|' read -r revision percent tag latest; do
        LATEST=$latest
        if [[ $tag == canary ]]; then CANARY=$revision; elif ((percent)); then SERVING=$revision; fi
    done <<<"$rows"
}

# The canary is the serving revision with another label. It is made once, then only its share changes.
canary() {
    shares
    if ((PERCENT == 0)); then
        run gcloud run services update-traffic "$NAME" --to-revisions="$SERVING=100" --remove-tags=canary
        return 0
    elif [[ -z $CANARY ]]; then
        [[ $SERVING == "$LATEST" ]] || fail "$NAME must serve its latest revision '$LATEST' before a canary, got '$SERVING': deploy first"
        run gcloud run services update "$NAME" --tag=canary --no-traffic --update-env-vars=MODEL_VERSION_LABEL=canary \
            --update-labels=segment-made-by=canary
    fi
    run gcloud run services update-traffic "$NAME" --to-tags="canary=$PERCENT"
}

rollback() {
    local revisions
    shares
    [[ -z $DRY_RUN ]] || : "${REVISION:=BEFORE}"
    if [[ -z $REVISION ]]; then
        revisions=$(gcloud run revisions list --service="$NAME" '--sort-by=~metadata.creationTimestamp' \
            '--filter=metadata.labels.segment-made-by=deploy AND status.conditions[0].status=True' '--format=value(metadata.name)')
        REVISION=$(sed -n "/^$SERVING\$/{n;p;}" <<<"$revisions")
        [[ -n $REVISION ]] || fail "$NAME must have a deployment before '$SERVING' to roll back to, got none"
    fi
    run gcloud run services update-traffic "$NAME" --to-revisions="$REVISION=100" --remove-tags=canary
}

delete() {
    if [[ -n $LEGACY ]]; then remove functions "$NAME"; else remove run services "$NAME"; fi
    remove_accounts "$NAME" "$BUILD_ACCOUNT"
}

parse 'deploy canary rollback delete' "$OPTIONS" '--public --legacy --dry-run' "$@"
check
start
