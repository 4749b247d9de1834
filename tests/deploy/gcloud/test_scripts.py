"""What both scripts keep: shellcheck's rules, a help with every option, checked options, dry runs without changes."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.gcloud.conftest import ROOT, SCRIPTS, deployment, option
from tests.deploy.gcloud.fake_gcloud import pairs


def test_shellcheck_has_nothing_to_say(tmp_path):
    (tmp_path / "bad.sh").write_text("#!/bin/sh\nrm $1\n")
    program = Path(sys.executable).parent / "shellcheck"
    assert subprocess.run([program, tmp_path / "bad.sh"], capture_output=True, check=False).returncode == 1
    subprocess.run([program, "-x", *SCRIPTS.glob("*.sh"), ROOT / ".ci/run"], cwd=ROOT, check=True)


@pytest.mark.parametrize("script", ["function", "model"])
def test_help_names_every_option_and_command(cloud, script):
    source = (SCRIPTS / f"{script}.sh").read_text()
    assert "\nset -euo pipefail\n" in source
    options = set(re.search(r"OPTIONS='(.*?)'", source, re.DOTALL)[1].split())
    commands, flags = re.search(r"^parse '(.*?)' .* '(.*?)' ", source, re.MULTILINE).groups()
    printed = cloud.run(script, "--help", where=()).stdout
    rows = re.findall(r"^  ((?:--)?[a-z-]+(?:, --[a-z-]+)*) ", printed, re.MULTILINE)
    named = {name for row in rows for name in row.split(", ")}
    assert named == options | set(commands.split()) | set(flags.split()) | {"--help"}


@pytest.mark.parametrize("script", ["function", "model"])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("--projet=x", "an argument must be a command or an option of --help, got '--projet=x'"),
        ("frobnicate", "an argument must be a command or an option of --help, got 'frobnicate'"),
        ("--cpu", "--cpu must have a value, got none"),
        ("--cpu=3", "--cpu must be 1, 2, 4 or 8, got '3'"),
        ("--memory=lots", "--memory must be a size, such as 2Gi, got 'lots'"),
        ("--name=Segment", "--name must be 6 to 23 lower-case letters, digits and hyphens, got 'Segment'"),
        ("--labels=Team=A", "--labels must be KEY=VALUE,... in lower case, got 'Team=A'"),
        ("--min=30", "--min must be a whole number from 0 to "),
        ("--concurrency=08", "--concurrency must be a whole number from 1 to 1000, got '08'"),
        ("--ingress=open", "--ingress must be all"),
        ("--region=europe", "--region must be a region, such as europe-west4 (or set CLOUDSDK_RUN_REGION)"),
        ("--project=another", "--project must name what is there already, got 'another'"),
        ("--project=", "--project must be the id of a project (or set CLOUDSDK_CORE_PROJECT), got ''"),
    ],
)
def test_bad_options_are_refused_before_anything_changes(cloud, model, script, bad, message):
    where = {"CLOUDSDK_CORE_PROJECT": "a-project", "CLOUDSDK_RUN_REGION": "europe-west4"}
    assert message in cloud.refused(script, *[model] * (script == "model"), bad, where=(), **where)


def test_a_dry_run_prints_the_very_calls_and_makes_none(cloud, bundle, model, keys):
    values = ("--model-address=10.0.0.5:8500", '--env=CLASS_NAMES=it\'s a "b" $HOME,c', "--invoker=user:a@b.c")
    function = ("function", bundle, "--api-keys-secret=k", f"--api-keys-file={keys}", "--labels=a=b", *values)
    for arguments in (function, ("model", model, "--caller=another")):
        before = cloud.calls()
        printed = cloud.run(*arguments, "--dry-run", PATH="/usr/bin:/bin")
        assert (printed.returncode, cloud.calls()) == (0, before)
        assert "first-key" not in printed.stdout + printed.stderr
        place, *lines = map(shlex.split, printed.stdout.splitlines())
        assert place[:3] == ["export", "CLOUDSDK_CORE_PROJECT=a-project", "CLOUDSDK_RUN_REGION=europe-west4"]
        assert [line[1:] for line in lines] == cloud.done(*arguments)
    settings = pairs(option(deployment([call for call in cloud.changes() if "segment" in call]), "set-env-vars"))
    assert settings["CLASS_NAMES"] == 'it\'s a "b" $HOME,c'


@pytest.mark.parametrize(
    "arguments",
    [
        *(
            "function",
            "function canary",
            "function canary --percent=0",
            "function rollback",
            "function delete --legacy",
        ),
        *("model label --stable=1", "model delete --with-bucket"),
    ],
)
def test_every_command_has_a_dry_run(cloud, arguments):
    printed = cloud.run(*arguments.split(), "--dry-run")
    assert printed.returncode == 0, printed.stderr
    assert len(printed.stdout.splitlines()) > 1
    assert cloud.calls() == []
