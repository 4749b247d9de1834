"""What both scripts have to keep: shellcheck's rules, a help that names every option, and options that are checked."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.gcloud.conftest import ROOT, SCRIPTS

BIN = Path(sys.executable).parent


def shellcheck(*paths):
    return subprocess.run([BIN / "shellcheck", "-x", *paths], cwd=ROOT, capture_output=True, text=True, check=False)


def test_shellcheck_has_nothing_to_say(tmp_path):
    finished = shellcheck(*sorted(SCRIPTS.glob("*.sh")), ROOT / ".ci/run")
    assert (finished.returncode, finished.stdout) == (0, "")
    bad = tmp_path / "bad.sh"
    bad.write_text("#!/bin/sh\nrm $1\n")
    assert shellcheck(bad).returncode == 1


def test_scripts_stop_at_the_first_failure():
    for script in ("function", "model"):
        assert "\nset -euo pipefail\n" in (SCRIPTS / f"{script}.sh").read_text()


@pytest.mark.parametrize("script", ["function", "model"])
def test_help_names_every_option_and_command(cloud, script):
    source = (SCRIPTS / f"{script}.sh").read_text()
    taken = set(re.search(r"OPTIONS='(.*?)'", source, re.DOTALL)[1].split())
    commands, flags = re.search(r"^parse '(.*?)' .* '(.*?)' ", source, re.MULTILINE).groups()
    told = cloud.run(script, "--help", where=()).stdout
    rows = re.findall(r"^  ((?:--)?[a-z-]+(?:, --[a-z-]+)*) ", told, re.MULTILINE)
    named = {name for row in rows for name in row.split(", ")}
    assert named == taken | set(commands.split()) | set(flags.split()) | {"--help"}
    assert cloud.calls() == []


@pytest.mark.parametrize("script", ["function", "model"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--projet=x"], "an option must be one of --help, got '--projet=x'"),
        (["frobnicate"], "the command must be one of deploy"),
        (["--cpu"], "--cpu must have a value, got none"),
        (["--cpu=3"], "--cpu must be 1, 2, 4 or 8, got '3'"),
        (["--memory=lots"], "--memory must be a size"),
        (["--name=Segment"], "--name must be 6 to 23 lower-case letters"),
        (["--labels=Team=A"], "--labels must be KEY=VALUE,... in lower case, got 'Team=A'"),
        (["--min=3", "--max=2"], "--min must be a whole number from 0 to 2, got '3'"),
        (["--max=0"], "--max must be a whole number from 1"),
        (["--concurrency=1001"], "--concurrency must be a whole number from 1 to 1000, got '1001'"),
        (["--ingress=open"], "--ingress must be"),
        (["--region=europe"], "--region must be a region, such as europe-west4, got 'europe'"),
        (["--project=another"], "--project must be one that the account of gcloud may use, got 'another'"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_changes(cloud, script, arguments, message):
    where = [place for place in ("--project=a-project", "--region=europe-west4") if place[:9] not in str(arguments)]
    assert message in cloud.refused(script, *arguments, where=where)


@pytest.mark.parametrize("script", ["function", "model"])
def test_project_and_region_come_from_the_environment_too(cloud, script):
    assert "--project, or CLOUDSDK_CORE_PROJECT" in cloud.refused(script, where=())
    message = cloud.refused(script, where=("--project=a-project",))
    assert "--region, or CLOUDSDK_RUN_REGION, must name the region" in message
    variables = {"CLOUDSDK_CORE_PROJECT": "a-project", "CLOUDSDK_RUN_REGION": "europe-west4"}
    assert cloud.run(script, "delete", where=(), **variables).returncode == 0
