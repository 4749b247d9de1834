# Which revision of the function has how much of the traffic; sourced by function.sh.
# shellcheck shell=bash

traffic() {
    run gcloud run services update-traffic "$NAME" --project="$PROJECT" --region="$REGION" "$@" --quiet
}

# Set ANSWER to rows of revision, percent, tag: how the traffic is shared.
shares() {
    ask gcloud run services describe "$NAME" --project="$PROJECT" --region="$REGION" '--flatten=status.traffic[]' \
        '--format=value(status.traffic.revisionName,status.traffic.percent,status.traffic.tag)'
}

# Set ANSWER to the revision that has the traffic, apart from a canary.
serving() {
    shares
    ANSWER=$(awk -F '\t' '$3 != "canary" && $2 > 0 { print $1; exit }' <<<"$ANSWER")
}

canary_is_there() {
    shares
    grep -qE $'\tcanary$' <<<"$ANSWER"
}

# After a canary or a rollback a new revision takes traffic only when told to.
traffic_to_latest() {
    local latest
    [[ -z $DRY_RUN ]] || return 0
    service "$NAME" status.latestReadyRevisionName
    latest=$ANSWER
    shares
    [[ $(awk -F '\t' '$2 > 0 { print $1 }' <<<"$ANSWER") == "$latest" ]] || traffic --to-latest
    if canary_is_there; then traffic --remove-tags=canary; fi
}

# The canary is the serving revision with another label: it is made once, then only its share changes.
canary() {
    local main
    serving
    main=$ANSWER
    [[ -n $DRY_RUN || -n $main ]] || fail "--name must be a service of $PROJECT in $REGION, got '$NAME'; deploy it first"
    if ((PERCENT == 0)) && [[ -n $DRY_RUN ]]; then
        traffic --to-revisions=SERVING=100 --remove-tags=canary
    elif ((PERCENT == 0)); then
        if canary_is_there; then traffic --to-revisions="$main=100" --remove-tags=canary; else say "$NAME has no canary"; fi
    elif canary_is_there; then
        traffic --to-tags="canary=$PERCENT"
    else
        service "$NAME" status.latestReadyRevisionName
        [[ $ANSWER == "$main" ]] || fail "$NAME must serve its latest revision before a canary of it, got '$main' and not '$ANSWER': deploy first"
        run gcloud run services update "$NAME" --project="$PROJECT" --region="$REGION" --tag=canary --no-traffic \
            --update-env-vars=MODEL_VERSION_LABEL=canary --update-labels=segment-deployed=canary --quiet
        traffic --to-tags="canary=$PERCENT"
    fi
}

rollback() {
    local main tags=()
    serving
    main=$ANSWER
    if [[ -z $REVISION ]]; then
        ask gcloud run revisions list --service="$NAME" --project="$PROJECT" --region="$REGION" \
            '--sort-by=~metadata.creationTimestamp' \
            '--format=value(metadata.name,metadata.labels.segment-deployed,status.conditions[0].status)'
        # Those that became ready, but for canaries.
        REVISION=$(awk -F '\t' -v main="$main" 'after && $2 != "canary" && $3 == "True" { print $1; exit } $1 == main { after = 1 }' <<<"$ANSWER")
        if [[ -n $DRY_RUN ]]; then REVISION='REVISION-BEFORE'; fi
        [[ -n $REVISION ]] || fail "$NAME must have a deployment before '$main' to roll back to, got none"
    fi
    if canary_is_there; then tags=(--remove-tags=canary); fi
    traffic --to-revisions="$REVISION=100" ${tags[@]+"${tags[@]}"}
}
