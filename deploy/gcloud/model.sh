#!/usr/bin/env bash
# Deploy a model to TensorFlow Serving on Cloud Run, private to the function; move its versions' labels; tear down.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=deploy/gcloud/common.sh
source "$ROOT/deploy/gcloud/common.sh"

OPTIONS='--project --region --name --bucket --model --model-name --stable --canary --caller --cpu --memory --concurrency --min
--max --timeout --image --gpu --ingress --labels'
NAME=tf-serving BUCKET='' MODEL='' MODEL_NAME=shapes STABLE='' CANARY='' CALLER=segment
CPU=4 MEMORY='' CONCURRENCY=8 MIN=0 MAX=5 TIMEOUT=60 IMAGE='' GPU='' INGRESS=internal WITH_BUCKET=''
VERSION=2.21.0 # of TensorFlow Serving: that of tensorflow-serving-api in requirements.txt

usage() {
    cat <<'END'
usage: deploy/gcloud/model.sh [COMMAND] --project=ID --region=REGION [OPTION...]

commands
  deploy              upload versions, label them, deploy TensorFlow Serving with these options (default)
  label               upload versions and label them, and leave all else as it is deployed
  delete              delete the service and its account; the bucket stays unless --with-bucket

A new version: `label --stable=1 --canary=2` serves both, and `function.sh canary` sends it a part of the traffic; then
`label --stable=2`, or `label --stable=1` to give it up or to go back. Labels are part of a revision: one that loads nothing
takes no traffic. What is done already is not done again.

options, as --name=VALUE or --name VALUE
  --project           cloud project; or CLOUDSDK_CORE_PROJECT
  --region            region, such as europe-west4; or CLOUDSDK_RUN_REGION
  --name              the service's name, and its service account's [tf-serving]
  --model             folder of numbered versions, as `python -m deploy.export` writes them; not needed for what is uploaded
  --model-name        the model's name, MODEL_NAME of the function [shapes]
  --stable            the version labelled stable [the highest in --model]
  --canary            the version labelled canary [the stable one]
  --bucket            of the models; made where it is missing [PROJECT-models]
  --caller            service account of the function, the only one that may call [segment]
  --cpu, --memory     of an instance; 4 vCPUs at least with a GPU [4, 8Gi; 16Gi with a GPU, 4Gi with one vCPU]
  --concurrency       requests at once in an instance [8]
  --min, --max        instances [0, 5]
  --timeout           seconds a request may take, at least the function's deadline [60]
  --gpu               type of GPU, such as nvidia-l4 [none]
  --image             of TensorFlow Serving [docker.io/tensorflow/serving, the version of the client, -gpu with a GPU]
  --ingress           internal, or all where the function has no way through the VPC; callers need leave all the same [internal]
  --labels            KEY=VALUE,... on the service

flags
  --with-bucket       delete the bucket, with all models in it
  --dry-run           print every command that a first run would run, and run none
  --help              print this
END
}

check() {
    check_common
    : "${BUCKET:=${PROJECT//[.:]/-}-models}"
    matches --bucket "$BUCKET" '[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]' 'the name of a bucket'
    matches --model-name "$MODEL_NAME" '[A-Za-z0-9._-]+' 'letters, digits, dots, hyphens and underscores'
    matches --cpu "$CPU" '1|2|4|8' '1, 2, 4 or 8'
    if [[ -z $MEMORY ]]; then
        if [[ -n $GPU ]]; then MEMORY=16Gi; elif ((CPU == 1)); then MEMORY=4Gi; else MEMORY=8Gi; fi
    fi
    matches --memory "$MEMORY" '[0-9]+(Mi|Gi)' 'a size, such as 8Gi'
    matches --gpu "$GPU" '[a-z0-9-]*' 'a type of GPU, such as nvidia-l4'
    matches --ingress "$INGRESS" 'all|internal' 'all or internal'
    whole --concurrency "$CONCURRENCY" 1 1000
    whole --max "$MAX" 1 1000
    whole --min "$MIN" 0 "$MAX"
    whole --timeout "$TIMEOUT" 1 3600
    [[ -z $GPU ]] || ((CPU >= 4)) || fail "--cpu must be at least 4 with a GPU, got '$CPU'"
    [[ $COMMAND != delete ]] || return 0
    [[ -z $MODEL || -d $MODEL ]] || fail "--model must be a folder of numbered versions, got '$MODEL'"
    if [[ -z $STABLE && -n $MODEL ]]; then
        STABLE=$(find "$MODEL" -mindepth 2 -maxdepth 2 -name saved_model.pb | sed 's|/saved_model.pb$||; s|.*/||' | grep -x '[0-9]*' | sort -n | tail -1 || true)
        [[ -n $STABLE ]] || fail "--model must hold a version, such as $MODEL/1/saved_model.pb, got none"
    fi
    [[ -n $STABLE ]] || fail '--stable must be the number of a version, or --model a folder of versions, got neither'
    matches --stable "$STABLE" '[0-9]{1,18}' 'the number of a version'
    matches --canary "$CANARY" '[0-9]{0,18}' 'the number of a version'
    [[ $STABLE != "$CANARY" ]] || fail "--canary must be another version than --stable, got $CANARY twice"
}

bucket() {
    ask gcloud storage buckets describe "gs://$BUCKET" '--format=value(name)'
    [[ -n $ANSWER ]] ||
        run gcloud storage buckets create "gs://$BUCKET" --project="$PROJECT" --location="$REGION" \
            --uniform-bucket-level-access --public-access-prevention --quiet
    grant "serviceAccount:$(account "$NAME")" roles/storage.objectViewer bucket "$BUCKET"
}

# upload VERSION: from --model, or see that it is in the bucket.
upload() {
    local there=gs://$BUCKET/$MODEL_NAME/$1
    if [[ -n $MODEL && -s $MODEL/$1/saved_model.pb ]]; then
        run gcloud storage rsync --recursive --checksums-only "$MODEL/$1" "$there" --quiet
    else
        ask gcloud storage ls "$there/saved_model.pb"
        [[ -n $DRY_RUN || -n $ANSWER ]] || fail "version $1 must be in --model or at $there, got neither"
    fi
}

# Which versions are served, under which labels. Both labels always exist: no function asks for one that is unknown.
config() {
    local version
    printf 'model_config_list {\n  config {\n    name: "%s"\n    base_path: "/models/%s"\n' "$MODEL_NAME" "$MODEL_NAME"
    printf '    model_platform: "tensorflow"\n    model_version_policy {\n      specific {\n'
    for version in "$STABLE" ${CANARY:+"$CANARY"}; do printf '        versions: %s\n' "$version"; done
    printf '      }\n    }\n'
    printf '    version_labels { key: "stable" value: %s }\n' "$STABLE"
    printf '    version_labels { key: "canary" value: %s }\n' "${CANARY:-$STABLE}"
    printf '  }\n}\n'
}

# Set ARGS to the flags of the server. Its configuration is a file of the bucket that is named by its content: a server
# that runs would refuse to move a label to a version that is not loaded yet, one that starts loads first.
labelled() {
    local file there
    file=$NAME-$(config | cksum | cut -d' ' -f1).config there=gs://$BUCKET/$file
    ask gcloud storage ls "$there"
    if [[ -z $ANSWER ]]; then
        if [[ -z $DRY_RUN ]]; then
            mkdir -p "$ROOT/build/gcloud"
            config >"$ROOT/build/gcloud/$file"
        fi
        run gcloud storage cp "$ROOT/build/gcloud/$file" "$there" --quiet
    fi
    ARGS=--port=8500,--model_config_file=/models/$file
    ARGS+=,--allow_version_labels_for_unavailable_models=true # labels are assigned before versions have loaded
    ARGS+=,--enable_grpc_healthcheck_service=true             # for the startup probe
    ARGS+=,--enable_serialization_as_tensor_content=true      # a negative int8 takes one byte then, not ten
}

versions() {
    upload "$STABLE"
    if [[ -n $CANARY ]]; then upload "$CANARY"; fi
    labelled
}

deploy() {
    local flags
    enable_services run.googleapis.com storage.googleapis.com
    ensure_account "$NAME" 'segment: TensorFlow Serving'
    ensure_account "$CALLER" 'segment: the function'
    bucket
    versions

    flags=(--image="${IMAGE:-docker.io/tensorflow/serving:$VERSION${GPU:+-gpu}}" --command=tensorflow_model_server --args="$ARGS")
    flags+=(--project="$PROJECT" --region="$REGION" --service-account="$(account "$NAME")" --execution-environment=gen2)
    flags+=(--port=8500 --use-http2 "--add-volume=name=models,type=cloud-storage,bucket=$BUCKET,readonly=true")
    flags+=('--add-volume-mount=volume=models,mount-path=/models')
    flags+=(--cpu="$CPU" --memory="$MEMORY" --concurrency="$CONCURRENCY" --timeout="${TIMEOUT}s" --cpu-boost)
    flags+=(--min-instances="$MIN" --max-instances="$MAX" --ingress="$INGRESS" --no-allow-unauthenticated)
    flags+=('--startup-probe=grpc.port=8500,periodSeconds=5,timeoutSeconds=4,failureThreshold=48') # 240 s, the most there is
    if [[ -n $GPU ]]; then flags+=(--gpu=1 --gpu-type="$GPU" --no-gpu-zonal-redundancy --no-cpu-throttling); else flags+=(--gpu=0); fi
    deployed "$NAME"
    deploy_changed "$ANSWER" model gcloud run deploy "$NAME" "${flags[@]}"
    check_private
    grant "serviceAccount:$(account "$CALLER")" roles/run.invoker service "$NAME"
    service "$NAME" status.url
    [[ -n $DRY_RUN ]] || say "$NAME answers $CALLER at $ANSWER"
}

label() {
    local mark
    service "$NAME" metadata.name
    [[ -n $DRY_RUN || -n $ANSWER ]] || fail "--name must be a service of $PROJECT in $REGION, got '$NAME'; deploy it first"
    versions
    service "$NAME" 'spec.template.spec.containers[0].args.list()'
    mark=$ANSWER
    deployed "$NAME"
    if [[ -n $ANSWER && $mark == "$ARGS" ]]; then
        say "$NAME is labelled so already"
    else
        run gcloud run services update "$NAME" --project="$PROJECT" --region="$REGION" --args="$ARGS" \
            --update-labels="segment-deployed=labels-$(printf '%s' "$ARGS" | cksum | cut -d' ' -f1)" --quiet
    fi
}

delete() {
    delete_service
    delete_account "$NAME"
    [[ -n $WITH_BUCKET ]] || return 0
    ask gcloud storage buckets describe "gs://$BUCKET" '--format=value(name)'
    if [[ -n $DRY_RUN || -n $ANSWER ]]; then
        run gcloud storage rm --recursive "gs://$BUCKET" --quiet
    fi
}

parse 'deploy label delete' "${OPTIONS//$'\n'/ }" '--with-bucket --dry-run' "$@"
check
"$COMMAND"
