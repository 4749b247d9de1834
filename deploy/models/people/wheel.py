"""The package on PyPI that holds the networks. Imports no TensorFlow."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

from deploy.tools.processes import RunError

REQUIREMENT = "mediapipe==0.10.21"
NAME = "mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl"  # data alone is read: any machine can use it
SHA256 = "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3"
SIZE = "35.6 MB"
DETECTOR = "mediapipe/modules/pose_detection/pose_detection.tflite"
LANDMARKS = "mediapipe/modules/pose_landmark/pose_landmark_full.tflite"
TARGET = ("--platform=manylinux_2_28_x86_64", "--python-version=3.11", "--implementation=cp", "--abi=cp311")
NETWORK_S = ("--timeout=30", "--retries=1")


def networks(folder: Path) -> tuple[bytes, bytes]:
    """Return the files of the detector and of the landmark network; download the wheel if ``folder`` has none.

    Raises RunError, in one line, if it cannot be downloaded or has another hash.
    """
    wheel = folder / NAME
    if not _is_complete(wheel):
        _download(folder)
    if not _is_complete(wheel):
        raise RunError(f"{wheel} must have the SHA-256 {SHA256}, got {_sha256(wheel)}")
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(DETECTOR), archive.read(LANDMARKS)


def _download(folder: Path) -> None:
    """Download the wheel by pip, which knows the user's mirror and proxy, and checks the hash."""
    print(f"downloading {REQUIREMENT} ({SIZE}, once) ...", flush=True)
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--require-hashes")
    command = [sys.executable, "-m", "pip", "download", *options, *TARGET, *NETWORK_S, f"--dest={folder}"]
    requirement = f"{REQUIREMENT} --hash=sha256:{SHA256}\n"
    done = subprocess.run(
        [*command, "--requirement=/dev/stdin"], input=requirement, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = done.stderr.splitlines() or [f"exit code {done.returncode}"]
        last = next((line for line in reversed(said) if line.startswith("ERROR")), said[-1])
        raise RunError(f"pip must download {REQUIREMENT}, got {last}; is PyPI in reach?")


def _is_complete(wheel: Path) -> bool:
    return wheel.is_file() and _sha256(wheel) == SHA256


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
