"""The image of models: pinned, small, readable by the pods."""

import re
import subprocess
import sys
from pathlib import Path

from .rendered import KUBERNETES, SERVING, pods_of

DOCKERFILE = KUBERNETES / "model.Dockerfile"


def test_hadolint_has_nothing_to_say():
    program = Path(sys.prefix) / "bin" / "hadolint"
    done = subprocess.run([program, DOCKERFILE], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_it_runs_as_the_user_of_the_pods_from_a_pinned_base():
    text = DOCKERFILE.read_text()
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"busybox:1.37.0"}
    (pod,) = pods_of("plain", SERVING)
    user = pod.spec["securityContext"]
    assert f"USER {user['runAsUser']}:{user['runAsGroup']}\n" in text
