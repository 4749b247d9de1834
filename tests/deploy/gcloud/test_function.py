"""The function on a cloud: the exact calls, secrets and odd values, refusals, and the shares of the traffic."""

import pytest

from handler.config import Config
from tests.deploy.gcloud.conftest import calls, deployment, option
from tests.deploy.gcloud.fake_gcloud import pairs
from tests.support.settings import VARIABLES

ACCOUNT = "segment@a-project.iam.gserviceaccount.com"
BUILDER = "segment-build@a-project.iam.gserviceaccount.com"
URL = "tf-serving-abc123.a.run.app"
FIRST = """
services enable run.googleapis.com cloudbuild.googleapis.com artifactregistry.googleapis.com
    secretmanager.googleapis.com compute.googleapis.com
iam service-accounts create segment '--display-name=segment: the function'
iam service-accounts create segment-build '--display-name=segment: builds the function'
projects add-iam-policy-binding a-project --member=serviceAccount:{builder} --role=roles/run.builder
    --condition=None --format=none
secrets create segment-keys --replication-policy=automatic
secrets versions add segment-keys '--data-file={keys}'
secrets add-iam-policy-binding segment-keys --member=serviceAccount:{account}
    --role=roles/secretmanager.secretAccessor --condition=None --format=none
compute networks subnets update default --enable-private-ip-google-access
run deploy segment --function=segment --base-image=python313 --cpu-boost --ingress=all '{bundle}'
    --set-env-vars={settings} --build-service-account=projects/a-project/serviceAccounts/{builder}
    --set-secrets=API_KEYS=segment-keys:latest --no-allow-unauthenticated --network=default --subnet=default
    --vpc-egress=all-traffic
    --startup-probe=httpGet.path=/health,httpGet.port=8080,periodSeconds=1,timeoutSeconds=1,failureThreshold=60
    --service-account={account} --cpu=2 --memory=1Gi --concurrency=16 --timeout=60s --min-instances=0
    --max-instances=20 --update-labels=team=vision,segment-made-by=deploy
run services update-traffic segment --to-latest --remove-tags=canary
run services add-iam-policy-binding segment --member=user:someone@example.com --role=roles/run.invoker
    --condition=None --format=none
"""
SETTINGS = (
    "^@:^MODEL_NAME=shapes@:MODEL_VERSION_LABEL=stable@:DEADLINE_S=20@:GOOGLE_CLOUD_PROJECT=a-project@:WORKERS=2"
    f"@:THREADS=18@:MODEL_CONCURRENCY=8@:TF_SERVING_ADDRESS={URL}:443@:TF_SERVING_TLS=on@:TF_SERVING_AUDIENCE=https://{URL}"
    "@:CLASS_NAMES=red car,it's 5$"
)


@pytest.fixture
def arguments(bundle, keys):
    return ("function", bundle, "--api-keys-secret=segment-keys", f"--api-keys-file={keys}")


def test_the_calls_of_a_first_deployment_and_of_the_next(served, bundle, keys, arguments):
    more = ("--env", "CLASS_NAMES=red car,it's 5$", "--invoker=user:someone@example.com", "--labels=team=vision")
    first = calls(FIRST, account=ACCOUNT, builder=BUILDER, bundle=bundle, keys=keys, settings=SETTINGS)
    assert served.done(*arguments, *more) == first
    made = served.done(*arguments, *more)  # which deploys again, but stores the same keys only once
    assert made == [call for call in first if "create" not in call and "versions" not in call]


def test_other_keys_replace_the_stored_ones_and_none_is_ever_shown(served, keys, arguments):
    for text in ("first-key-0123, another-key", "third-key"):
        keys.write_text(text)
        finished = served.run(*arguments)
        assert finished.returncode == 0, finished.stderr
        assert (served.folder / "segment-keys").read_text() == text
        for said in (finished.stdout, finished.stderr, str(served.calls()), str(served.state)):
            assert "first-key" not in said
            assert "third-key" not in said


def test_a_run_after_one_that_failed_goes_on(served, arguments):
    for command in ("secrets versions add", "run deploy", "run services update-traffic"):
        served.change(fails={command: 1})
        assert served.run(*arguments).returncode == 1
    served.change(fails={"projects add-iam-policy-binding": 3})  # a new account is not known everywhere at once
    assert (
        served.done(*arguments)[-1] == calls("run services update-traffic segment --to-latest --remove-tags=canary")[0]
    )


def test_a_failure_of_gcloud_is_not_taken_for_missing(served, bundle):
    served.change(fails={"iam service-accounts describe": 1})
    finished = served.run("function", bundle)
    assert finished.returncode == 2
    assert f"gcloud must describe {ACCOUNT}, got: ERROR: a failure" in finished.stderr
    assert not {"create", "deploy"} & {word for call in served.calls() for word in call}


def test_the_function_takes_the_settings(served, bundle):
    made = served.done("function", bundle, "--cpu=4", "--concurrency=30", "--env=CORS_ORIGINS=https://a.b")
    settings = pairs(option(deployment(made), "set-env-vars"))
    assert set(settings) <= VARIABLES | {"WORKERS", "THREADS"}
    config = Config.from_environ(settings)
    assert config.tls is not None
    assert config.tf_serving_audience == "https://" + config.tf_serving_address.removesuffix(":443")
    assert (config.deadline_s, config.model_version_label, config.cors_origins) == (20.0, "stable", ("https://a.b",))
    assert (settings["WORKERS"], settings["THREADS"]) == ("4", "32")  # one worker may get all 30, and probes
    assert config.model_concurrency == 8  # 32 calls at once


def test_only_public_opens_the_function(served, bundle):
    assert "--no-allow-unauthenticated" in deployment(served.done("function", bundle))
    finished = served.run("function", bundle, "--public")
    assert "everyone may call the function, and it asks for no API key" in finished.stderr
    assert "--allow-unauthenticated" in served.calls()[-2]
    served.change(says={"run services get-iam-policy": "members: [allUsers]"})
    finished = served.run("function", bundle)
    assert finished.returncode == 2  # gcloud only warns if it cannot close the service
    assert "segment must be private, got a policy that lets everyone call it" in finished.stderr


@pytest.mark.parametrize("text", ["", "\n", " ", "one\ntwo\n", "one,,two", "one,", "a key", "k\u00e9y"])
def test_keys_that_the_function_would_refuse_or_take_for_none(served, keys, arguments, text):
    keys.write_text(text)
    said = served.refused(*arguments)
    assert "--api-keys-file must hold printable keys without spaces, comma-separated in one line" in said
    assert "k\u00e9y" not in said


@pytest.mark.parametrize("text", ["one", "one\n", " one , two ", "a-b_c.d!~,+x"])
def test_keys_that_the_function_takes(cloud, keys, arguments, text):
    keys.write_text(text)
    assert cloud.run(*arguments, "--dry-run").returncode == 0
    assert len(Config.from_environ({"API_KEYS": text}).api_keys) == 1 + text.count(",")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("--env=class_names=a", "--env must be NAME=VALUE in one line without '@:', got 'class_names=a'"),
        ("--env=CLASS_NAMES", "--env must be NAME=VALUE"),
        ("--env=CLASS_NAMES=a\nb", "--env must be NAME=VALUE"),
        ("--env=CLASS_NAMES=a@:B=c", "--env must be NAME=VALUE"),
        ("--env=API_KEYS=top-secret", "--api-keys-secret must hold the API keys, got them in --env"),
        ("--api-keys-file=README.md", "--api-keys-secret must name a secret for --api-keys-file, got none"),
        ("--api-keys-secret=none", "--api-keys-secret must name what is there already, got 'none'"),
        ("--model-service=other", "--model-service must name what is there already, got 'other'"),
        ("--invoker=someone@example.com", "--invoker must be user:, group:, domain: or serviceAccount:..."),
        ("--invoker=allUsers", "--invoker must be user:, group:, domain: or serviceAccount:..., got 'allUsers'"),
        ("--source=/", "--source must be a folder of `make bundle`, got '/'"),
        ("--vpc-connector=c", "--vpc-connector must come with --legacy, got 'c' alone"),
        ("--runtime=python39", "--runtime must be python311, python312 or python313, got 'python39'"),
        ("--deadline=55", "--timeout must be a whole number from 65 to 3600, got '60'"),
    ],
)
def test_bad_options_are_refused_before_anything_changes(served, bad, message):
    said = served.refused("function", bad)
    assert message in said
    assert "top-secret" not in said


def test_a_model_elsewhere(cloud, bundle):
    where = ("--model-address=dns:///models.internal:8500", "--network=net", "--subnet=sub")
    call = deployment(cloud.done("function", bundle, *where, "--env=TF_SERVING_TLS=on"))
    config = Config.from_environ(pairs(option(call, "set-env-vars")))
    assert (config.tf_serving_address, config.tf_serving_audience) == ("dns:///models.internal:8500", "")
    assert (option(call, "network"), option(call, "subnet")) == ("net", "sub")


def test_the_older_way(served, bundle):
    call = deployment(served.done("function", bundle, "--legacy", "--vpc-connector=c", "--ingress=internal"))
    assert call[:3] == ["functions", "deploy", "segment"]
    assert {"--gen2", "--trigger-http", "--entry-point=segment", "--runtime=python313", "--clear-secrets"} <= set(call)
    assert {"--vpc-connector=c", "--region=europe-west4", "--ingress-settings=internal-only"} <= set(call)
    assert served.done("function", "delete", "--legacy")[0] == ["functions", "delete", "segment"]


def test_tear_down(served, arguments):
    served.done(*arguments)
    accounts = "".join(f"iam service-accounts delete {account}\n" for account in (ACCOUNT, BUILDER))
    assert served.done("function", "delete") == calls("run services delete segment\n" + accounts)
    assert served.done("function", "delete") == []


CANARY = """
run services update segment --tag=canary --no-traffic --update-env-vars=MODEL_VERSION_LABEL=canary
    --update-labels=segment-made-by=canary
run services update-traffic segment --to-tags=canary=25
"""
UPDATE = "run services update-traffic segment"


def shared(cloud, text):
    """Make a function with this traffic: lines of revision, percentage, tag and the latest revision."""
    there = {**cloud.state["there"], "run services segment": True}
    cloud.change(there=there, says={"run services describe": text, "run revisions list": "segment-4\nsegment-1\n"})


def test_a_canary_its_growth_and_its_end(cloud):
    shared(cloud, "segment-1|100||segment-1")
    assert cloud.done("function", "canary", "--percent=25") == calls(CANARY)
    shared(cloud, "segment-1|75||segment-2\nsegment-2|25|canary|segment-2")
    assert cloud.done("function", "canary", "--percent=50") == calls(f"{UPDATE} --to-tags=canary=50")
    end = calls(f"{UPDATE} --to-revisions=segment-1=100 --remove-tags=canary")
    assert cloud.done("function", "canary", "--percent=0") == end
    shared(cloud, "segment-1|100||segment-2")  # so it is after a rollback, too
    message = cloud.refused("function", "canary")
    assert (
        "segment must serve its latest revision 'segment-2' before a canary, got 'segment-1': deploy first" in message
    )


def test_rolling_back(cloud):
    assert "run services segment was not found" in cloud.run("function", "rollback").stderr
    shared(cloud, "segment-4|75||segment-5\nsegment-5|25|canary|segment-5")
    made = cloud.done("function", "rollback")
    assert made == calls(f"{UPDATE} --to-revisions=segment-1=100 --remove-tags=canary")
    (listing,) = [call for call in cloud.calls() if "list" in call]  # without canaries and what never became ready
    assert option(listing, "filter") == "metadata.labels.segment-made-by=deploy AND status.conditions[0].status=True"
    shared(cloud, "segment-1|100||segment-5")
    message = cloud.refused("function", "rollback")
    assert "segment must have a deployment before 'segment-1' to roll back to, got none" in message
    made = cloud.done("function", "rollback", "--revision=segment-4")
    assert made == calls(f"{UPDATE} --to-revisions=segment-4=100 --remove-tags=canary")
