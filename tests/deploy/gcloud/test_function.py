"""The function on a cloud: the exact calls, secrets and spaces, refusals, and that a second run changes nothing."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from deploy.bundle import pins
from deploy.bundle.__main__ import MARK, digest, write
from handler.config import Config
from tests.deploy.gcloud.conftest import ROOT, calls
from tests.deploy.gcloud.fake_gcloud import pairs
from tests.test_readme import Asked

ACCOUNT = "segment@a-project.iam.gserviceaccount.com"
BUILDER = "segment-build@a-project.iam.gserviceaccount.com"
FRAMEWORK = {"WORKERS", "THREADS"}
SECRET = "first-key-0123, another-key"


@pytest.fixture
def keys(tmp_path):
    file = tmp_path / "the keys.txt"
    file.write_text(SECRET)
    return file


def option(call, name):
    (value,) = [word.split("=", 1)[1] for word in call if word.startswith(f"--{name}=")]
    return value


def deployment(made):
    (call,) = [call for call in made if call[:2] in (["run", "deploy"], ["functions", "deploy"])]
    return call


FIRST = """
services enable cloudbuild.googleapis.com artifactregistry.googleapis.com secretmanager.googleapis.com
    compute.googleapis.com {project} --quiet
iam service-accounts create segment-build '--display-name=segment: builds the function' {project} --quiet
projects add-iam-policy-binding a-project --member=serviceAccount:{builder} --role=roles/run.builder --condition=None
    --format=none --quiet
secrets create segment-keys --replication-policy=automatic '--data-file={keys}' {project} --quiet
secrets add-iam-policy-binding segment-keys {project} --member=serviceAccount:{account}
    --role=roles/secretmanager.secretAccessor --format=none --quiet
compute networks subnets update default {project} {region} --enable-private-ip-google-access --quiet
run deploy segment --function=segment --base-image=python313 --cpu-boost {project} {region}
    '--source={bundle}' --service-account={account}
    --build-service-account=projects/a-project/serviceAccounts/{builder} --cpu=2 --memory=1Gi --concurrency=16
    --timeout=60s
    --min-instances=0 --max-instances=20 '--set-env-vars=^|^{settings}' --set-secrets=API_KEYS=segment-keys:1
    --no-allow-unauthenticated
    --startup-probe=httpGet.path=/health,httpGet.port=8080,periodSeconds=1,timeoutSeconds=1,failureThreshold=60
    --ingress=all --network=default --subnet=default --vpc-egress=all-traffic --update-labels={labels} --quiet
run services add-iam-policy-binding segment {project} {region} --member=user:someone@example.com
    --role=roles/run.invoker --format=none --quiet
"""


def test_the_calls_of_a_first_deployment(served, bundle, keys):
    made = served.done(
        *("function", "--source", str(bundle), "--api-keys-secret=segment-keys", "--api-keys-file", str(keys)),
        *("--env", "CLASS_NAMES=red car,blue car", "--invoker=user:someone@example.com", "--labels=team=vision"),
    )
    labels = option(deployment(made), "update-labels")
    assert re.fullmatch(r"team=vision,segment-deployed=0123456789abcdef-\d+", labels)
    url = pairs(option(deployment(made), "set-env-vars"))["TF_SERVING_AUDIENCE"]
    settings = (
        "MODEL_NAME=shapes|MODEL_VERSION_LABEL=stable|DEADLINE_S=20|GOOGLE_CLOUD_PROJECT=a-project|WORKERS=2|THREADS=8"
        f"|TF_SERVING_ADDRESS={url.removeprefix('https://')}:443|TF_SERVING_TLS=on|TF_SERVING_AUDIENCE={url}"
        "|CLASS_NAMES=red car,blue car"
    )
    assert re.fullmatch(r"https://tf-serving-\w+\.a\.run\.app", url)
    assert made == calls(
        FIRST, keys=keys, bundle=bundle, account=ACCOUNT, builder=BUILDER, settings=settings, labels=labels
    )


def test_a_second_run_changes_nothing(served, bundle, keys):
    arguments = ("--source", str(bundle), "--api-keys-secret=segment-keys", "--api-keys-file", str(keys))
    invited = ("--invoker=group:them@example.com", "--env=CLASS_NAMES=a|b,c")
    served.done("function", *arguments, *invited)
    before = served.snapshot()
    assert served.done("function", *arguments, *invited) == []
    assert served.snapshot() == before


@pytest.mark.parametrize("changed", ["bundle", "setting", "labels", "keys"])
def test_what_changed_is_deployed(served, bundle, keys, changed):
    arguments = ["--source", str(bundle), "--api-keys-secret=segment-keys", "--api-keys-file", str(keys)]
    served.done("function", *arguments)
    if changed == "bundle":
        (bundle / ".segment-bundle").write_text("fedcba9876543210" * 4)
    elif changed == "keys":
        keys.write_text("a-new-key")
    else:
        arguments.append({"setting": "--deadline=30", "labels": "--labels=team=vision"}[changed])
    *before, call = served.done("function", *arguments)
    assert [one[:3] for one in before] == ([["secrets", "versions", "add"]] if changed == "keys" else [])
    assert call[:3] == ["run", "deploy", "segment"]  # with new keys, too: instances keep those they started with
    assert option(call, "set-secrets") == f"API_KEYS=segment-keys:{2 if changed == 'keys' else 1}"


def test_a_deployment_that_failed_is_not_taken_for_done(served, bundle):
    served.change(fails=True)
    assert served.run("function", "--source", str(bundle)).returncode == 1
    made = served.done("function", "--source", str(bundle))
    assert [call[:3] for call in made] == [["run", "deploy", "segment"]]
    assert served.done("function", "--source", str(bundle)) == []


def test_what_gcloud_cannot_tell_is_not_taken_for_missing(served, bundle):
    (served.folder / "bin/gcloud").rename(served.folder / "bin/real")
    program = served.folder / "bin/gcloud"
    program.write_text(
        '#!/bin/sh\ncase "$*" in *service-accounts\\ describe*) echo "ERROR: the network is down" >&2; exit 1;; esac\n'
        f'exec "{served.folder}/bin/real" "$@"\n'
    )
    program.chmod(0o755)
    finished = served.run("function", "--source", str(bundle))
    assert finished.returncode == 2
    assert re.search(
        r"gcloud iam service-accounts describe .* must answer, got: ERROR: the network is down", finished.stderr
    )
    assert "segment" not in served.state["run"]


def test_secrets_are_in_no_call_and_nothing_that_is_printed(served, bundle, keys):
    arguments = ("--source", str(bundle), "--api-keys-secret=segment-keys", "--api-keys-file", str(keys))
    finished = served.run("function", *arguments)
    assert finished.returncode == 0
    for text in (finished.stdout, finished.stderr, str(served.calls()), str(served.state)):
        assert "first-key" not in text
        assert "another-key" not in text
    assert (served.folder / "secrets/segment-keys-1").read_text() == SECRET


def test_the_settings_are_ones_that_the_function_takes(served, bundle):
    made = served.done(
        "function", "--source", str(bundle), "--cpu=4", "--concurrency=30", "--env=CORS_ORIGINS=https://a.b"
    )
    settings = pairs(option(deployment(made), "set-env-vars"))
    asked = Asked()
    Config.from_environ(asked)
    assert set(settings) <= asked.names | FRAMEWORK
    config = Config.from_environ(settings)
    assert config.tls is not None
    assert config.tf_serving_audience == "https://" + config.tf_serving_address.removesuffix(":443")
    assert (config.deadline_s, config.model_version_label, config.cors_origins) == (20.0, "stable", ("https://a.b",))
    workers, threads = int(settings["WORKERS"]), int(settings["THREADS"])
    assert (workers, threads) == (4, 8)  # 32 requests at once, so that none of 30 waits


def test_a_timeout_within_the_deadline_is_refused(served, bundle):
    message = served.refused("function", "--source", str(bundle), "--deadline=55")
    assert "--timeout must be a whole number from 65 to 3600, got '60'" in message


def test_nothing_is_public_unless_that_is_asked_for(served, bundle):
    call = deployment(served.done("function", "--source", str(bundle)))
    assert "--no-allow-unauthenticated" in call
    assert not served.state["policies"].get("run services segment")
    finished = served.run("function", "--source", str(bundle), "--public")
    assert served.state["policies"]["run services segment"][0][0] == "user:allUsers"
    assert "everyone may call the function, and it asks for no API key" in finished.stderr
    finished = served.run("function", "--source", str(bundle))
    assert finished.returncode == 2  # gcloud only warns where it could not close the service
    assert "segment must be private, got a policy that lets everyone in" in finished.stderr


@pytest.mark.parametrize("text", ["", "\n", " ", "one\ntwo\n", "one,,two", "one,", "a key", "k\u00e9y"])
def test_keys_that_the_function_would_refuse_or_take_for_none(served, bundle, keys, text):
    keys.write_text(text)
    said = served.refused(
        "function", f"--source={bundle}", "--public", "--api-keys-secret=k", f"--api-keys-file={keys}"
    )
    assert "--api-keys-file must hold printable keys without spaces, comma-separated in one line" in said
    assert "k\u00e9y" not in said


@pytest.mark.parametrize("text", ["one", "one\n", " one , two ", "a-b_c.d!~,+x"])
def test_keys_that_the_function_takes(served, bundle, keys, text):
    keys.write_text(text)
    served.done("function", f"--source={bundle}", "--api-keys-secret=k", f"--api-keys-file={keys}")
    stored = (served.folder / "secrets/k-1").read_text()
    assert len(Config.from_environ({"API_KEYS": stored}).api_keys) == 1 + text.count(",")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env=class_names=a"], "--env must be NAME=VALUE in one line, got 'class_names=a'"),
        (["--env=CLASS_NAMES"], "--env must be NAME=VALUE in one line, got 'CLASS_NAMES'"),
        (["--env=CLASS_NAMES=a\nb"], "--env must be NAME=VALUE in one line"),
        (["--env=API_KEYS=top-secret"], "--api-keys-secret must hold the API keys, got them in --env"),
        (["--api-keys-file=README.md"], "--api-keys-secret must name what --api-keys-file fills, got none"),
        (["--api-keys-secret=k", "--api-keys-file=none"], "--api-keys-file must be a file with keys, got 'none'"),
        (["--invoker=someone@example.com"], "--invoker must be user:, group:, domain: or serviceAccount:..."),
        (["--invoker=allUsers"], "--invoker must be user:, group:, domain: or serviceAccount:..., got 'allUsers'"),
        (["--source=/"], "--source must be a folder of `make bundle`, got '/'"),
        (["--vpc-connector=c"], "--legacy must go with --vpc-connector"),
        (["--concurrency=08"], "--concurrency must be a whole number from 1 to 1000, got '08'"),
        (["--runtime=python39"], "--runtime must be python311, python312 or python313, got 'python39'"),
    ],
)
def test_what_cannot_be_used_is_refused(served, arguments, message):
    said = served.refused("function", *arguments)
    assert message in said
    assert "top-secret" not in said


def test_a_secret_or_a_model_that_is_not_there_is_refused_before_the_upload(cloud, served, bundle):
    finished = cloud.run("function", "--source", str(bundle), "--api-keys-secret=none")
    assert finished.returncode == 2
    assert "--api-keys-secret must be a secret of a-project, got 'none'" in finished.stderr
    finished = cloud.run("function", "--source", str(bundle), "--model-service=other")
    assert finished.returncode == 2
    assert "--model-service must be a service of a-project in europe-west4, got 'other'" in finished.stderr
    assert "segment" not in cloud.state["run"]


def test_a_model_elsewhere(cloud, bundle):
    made = cloud.done(
        *("function", "--source", str(bundle), "--model-address=dns:///models.internal:8500", "--network=net"),
        *("--subnet=sub", "--env=TF_SERVING_TLS=on", "--env=TF_SERVING_CA_FILE=/etc/ca.pem"),
    )
    config = Config.from_environ(pairs(option(deployment(made), "set-env-vars")))
    assert (config.tf_serving_address, config.tf_serving_audience) == ("dns:///models.internal:8500", "")
    assert config.tls.ca_file == "/etc/ca.pem"
    assert (option(deployment(made), "network"), option(deployment(made), "subnet")) == ("net", "sub")


def test_the_older_way(served, bundle):
    arguments = ("--source", str(bundle), "--legacy", "--vpc-connector=c", "--ingress=internal")
    call = deployment(served.done("function", *arguments))
    assert call[:3] == ["functions", "deploy", "segment"]
    assert {"--gen2", "--trigger-http", "--entry-point=segment", "--runtime=python313", "--vpc-connector=c"} <= set(
        call
    )
    assert {"--no-allow-unauthenticated", "--ingress-settings=internal-only", "--clear-secrets"} <= set(call)
    before = served.snapshot()
    assert served.done("function", *arguments) == []
    assert served.snapshot() == before


def test_tear_down(served, bundle, keys):
    served.done("function", f"--source={bundle}", "--api-keys-secret=k", f"--api-keys-file={keys}")
    served.done("function", "delete")
    assert set(served.state["run"]) == {"tf-serving"}
    assert not {ACCOUNT, BUILDER} & set(served.state["accounts"])
    assert "k" in served.state["secrets"]
    assert served.done("function", "delete") == []


def test_tear_down_of_the_older_way(served, bundle):
    served.done("function", f"--source={bundle}", "--legacy")
    assert served.done("function", "delete", "--legacy")[0][:3] == ["functions", "delete", "segment"]
    assert "segment" not in served.state["run"]


def test_a_dry_run_prints_the_very_calls_and_makes_none(cloud, bundle, keys):
    arguments = (
        *("--source", str(bundle), "--api-keys-secret=k", f"--api-keys-file={keys}", "--model-address=10.0.0.5:8500"),
        *('--env=CLASS_NAMES=it\'s a "b" $HOME,c', "--invoker=user:a@b.c", "--labels=a=b"),
    )
    printed = cloud.run("function", *arguments, "--dry-run")
    assert printed.returncode == 0
    assert cloud.calls() == []
    assert [shlex.split(line)[1:] for line in printed.stdout.splitlines()] == cloud.done("function", *arguments)
    settings = pairs(option(deployment(cloud.calls()), "set-env-vars"))
    assert settings["CLASS_NAMES"] == 'it\'s a "b" $HOME,c'


def test_a_dry_run_needs_no_gcloud(cloud, bundle):
    (cloud.folder / "bin/gcloud").unlink()
    printed = cloud.run("function", f"--source={bundle}", "--dry-run", PATH="/usr/bin:/bin")
    assert printed.returncode == 0
    assert "gcloud run deploy segment" in printed.stdout


def test_without_a_source_the_bundle_is_made_and_uploaded(served):
    """It is the one that tests/deploy/bundle starts with its own requirements alone, and what fetches ID tokens."""
    call = deployment(served.done("function"))
    folder = Path(option(call, "source"))
    assert folder == ROOT / "build/function"
    mark = (folder / MARK).read_text().strip()
    assert option(call, "update-labels").startswith(f"segment-deployed={mark[:16]}-")
    (folder / MARK).unlink()
    assert digest(folder) == mark
    assert {"google-auth[requests]==2.63.0", "functions-framework==3.10.2"} <= set(
        (folder / "requirements.txt").read_text().splitlines()
    )
    write(folder.parent / "function.again", pins.slim(id_tokens=True))
    try:
        assert (folder.parent / "function.again" / MARK).read_text().strip() == mark
    finally:
        shutil.rmtree(folder.parent / "function.again")
        (folder / MARK).write_text(f"{mark}\n")
