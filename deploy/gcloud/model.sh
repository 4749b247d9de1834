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
    cat <<END
usage: deploy/gcloud/model.sh [COMMAND] --project=ID --region=REGION [OPTION...]

commands
  deploy              upload versions, label them, deploy TensorFlow Serving with these options (default)
  label               upload versions and label them, and leave all else as it is deployed
  delete              delete the service, and its account unless another region uses it; bucket with --with-bucket

A new version: \`label --stable=1 --canary=2\` serves both, and \`function.sh canary\` sends it a part of the traffic.
Then \`label --stable=2\` promotes it, and \`label --stable=1\` gives it up.

options, as --name=VALUE or --name VALUE
  --model             folder of numbered versions from \`python -m deploy.export\`; not needed for uploaded versions
  --model-name        the model's name, MODEL_NAME of the function [$MODEL_NAME]
  --stable            the version labelled stable [the highest in --model]
  --canary            the version labelled canary [the stable one]
  --bucket            bucket of the models; made if it is missing [PROJECT-models]
  --caller            service account of the function, the only one that may call [$CALLER]
  --gpu               type of GPU, such as nvidia-l4, with 4 vCPUs or more [none]
  --image             image of TensorFlow Serving [docker.io/tensorflow/serving:$VERSION, -gpu with a GPU]
  --ingress           internal, or all if the function has no way through the VPC [$INGRESS]
  --with-bucket       delete the bucket too, with all models in it
END
    common_usage '8Gi; 16Gi with a GPU, 4Gi with one vCPU'
}

check() {
    if [[ -n $GPU ]]; then : "${MEMORY:=16Gi}"; elif [[ $CPU == 1 ]]; then : "${MEMORY:=4Gi}"; fi
    : "${MEMORY:=8Gi}" "${BUCKET:=${PROJECT//[.:]/-}-models}"
    check_common
    must_count --timeout 1 3600
    must --bucket '[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]' 'the name of a bucket'
    must --model-name '[A-Za-z0-9._-]+' 'letters, digits, dots, hyphens and underscores'
    must --gpu '[a-z0-9-]*' 'a type of GPU, such as nvidia-l4'
    must --ingress 'all|internal' 'all or internal'
    [[ -z $GPU ]] || ((CPU >= 4)) || fail "--cpu must be at least 4 with a GPU, got '$CPU'"
    [[ $COMMAND != delete ]] || return 0
    [[ -z $MODEL || -d $MODEL ]] || fail "--model must be a folder of numbered versions, got '$MODEL'"
    if [[ -z $STABLE && -n $MODEL ]]; then
        STABLE=$(cd "$MODEL" && printf '%s\n' */saved_model.pb | sed -n 's|^\([0-9]*\)/saved_model.pb$|\1|p' | sort -n | tail -1)
    fi
    must --stable '[0-9]{1,18}' 'the number of a version, or --model a folder with a version such as 1/saved_model.pb'
    must --canary '[0-9]{0,18}' 'the number of a version'
    [[ $STABLE != "$CANARY" ]] || fail "--canary must be another version than --stable, got $CANARY twice"
}

# Upload versions and configuration; set ARGS to the flags of the server. Each choice of versions has a file of its own:
# a running server refuses labels of versions that it has not loaded, a new server loads first. Both labels always exist.
upload() {
    local version there=gs://$BUCKET file=$NAME-$MODEL_NAME-$STABLE-${CANARY:-$STABLE}.config
    for version in "$STABLE" $CANARY; do
        if [[ -n $MODEL && -s $MODEL/$version/saved_model.pb ]]; then
            run gcloud storage rsync --recursive --checksums-only "$MODEL/$version" "$there/$MODEL_NAME/$version"
        else
            must_exist --model storage objects "$there/$MODEL_NAME/$version/saved_model.pb"
        fi
    done
    mkdir -p "$ROOT/build/gcloud"
    cat >"$ROOT/build/gcloud/$file" <<END
model_config_list { config {
  name: "$MODEL_NAME" base_path: "/models/$MODEL_NAME" model_platform: "tensorflow"
  model_version_policy { specific { versions: $STABLE ${CANARY:+versions: $CANARY }} }
  version_labels { key: "stable" value: $STABLE } version_labels { key: "canary" value: ${CANARY:-$STABLE} }
} }
END
    run gcloud storage cp "$ROOT/build/gcloud/$file" "$there/$file"
    ARGS=--port=8500,--model_config_file=/models/$file
    ARGS+=,--allow_version_labels_for_unavailable_models=true # labels are assigned before versions have loaded
    ARGS+=,--enable_grpc_healthcheck_service=true             # for the startup probe
    ARGS+=,--grpc_max_threads=1024                            # it refuses more calls; --concurrency is the limit
    ARGS+=,--enable_serialization_as_tensor_content=true      # a negative int8 takes one byte then, not ten
}

deploy() {
    local flags
    run gcloud services enable run.googleapis.com storage.googleapis.com
    ensure_account "$NAME" 'segment: TensorFlow Serving'
    ensure_account "$CALLER" 'segment: the function'
    exists storage buckets "gs://$BUCKET" || run gcloud storage buckets create "gs://$BUCKET" --location="$REGION" \
        --uniform-bucket-level-access --public-access-prevention
    grant "serviceAccount:$NAME@$ACCOUNTS" roles/storage.objectViewer storage buckets "gs://$BUCKET"
    upload

    flags=(--image="${IMAGE:-docker.io/tensorflow/serving:$VERSION${GPU:+-gpu}}" --command=tensorflow_model_server --args="$ARGS")
    flags+=(--execution-environment=gen2 --port=8500 --use-http2 --cpu-boost --ingress="$INGRESS" --no-allow-unauthenticated)
    flags+=("--add-volume=name=models,type=cloud-storage,bucket=$BUCKET,readonly=true")
    flags+=('--add-volume-mount=volume=models,mount-path=/models')
    flags+=('--startup-probe=grpc.port=8500,periodSeconds=5,timeoutSeconds=4,failureThreshold=48') # 240 s, the most there is
    if [[ -n $GPU ]]; then flags+=(--gpu=1 --gpu-type="$GPU" --no-gpu-zonal-redundancy --no-cpu-throttling); else flags+=(--gpu=0); fi
    deploy_service gcloud run deploy "$NAME" "${flags[@]}"
    grant "serviceAccount:$CALLER@$ACCOUNTS" roles/run.invoker run services "$NAME"
    check_private
}

label() {
    must_exist --name run services "$NAME"
    upload
    run gcloud run services update "$NAME" --args="$ARGS"
}

delete() {
    remove run services "$NAME"
    remove_accounts "$NAME"
    [[ -n $WITH_BUCKET ]] || return 0
    if [[ -n $DRY_RUN ]] || exists storage buckets "gs://$BUCKET"; then run gcloud storage rm --recursive "gs://$BUCKET"; fi
}

parse 'deploy label delete' "$OPTIONS" '--with-bucket --dry-run' "$@"
check
start
