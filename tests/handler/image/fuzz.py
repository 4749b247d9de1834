"""Broken JPEGs through the decoders: the function gives the pixels and the errors of Pillow alone, and never crashes.

``python -m tests.handler.image.fuzz --minutes 30`` decodes in processes of their own. A file on which one crashes or
differs stays in ``build/fuzz``.
"""

import argparse
import functools
import io
import random
import struct
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image
from tqdm import tqdm

from handler.errors import SegmentError
from handler.image import turbo
from handler.image.decode import Limits, decode_image
from tests.http.corpus import samples

LIMITS = Limits(max_pixels=1 << 20)
ROUND = 2000  # files of one process
FOLDER = Path(__file__).parents[3] / "build/fuzz"
LARGEST_BYTES = 20_000


@functools.cache
def whole():
    """Return files to break: those of the corpus, one longer than the buffer of Pillow, and other kinds of frames."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (160, 240, 3), np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG", quality=95)
    small = [one.data for one in samples() if one.name.startswith("JPEG") and len(one.data) < LARGEST_BYTES]
    arithmetic = [data.replace(b"\xff\xc0", b"\xff\xc9") for data in small if b"\xff\xc0" in data]
    return (*small, buffer.getvalue(), arithmetic[0], lossless((48, 64)))


def lossless(size_hw):
    """Return a lossless JPEG of three components, each difference 0 in one bit. Source: ITU-T T.81, annex B."""
    height, width = size_hw
    components = b"RGB"
    tables = _segment(0xC4, b"\0" + bytes([1] + [0] * 15) + b"\0")
    frame = b"\x08" + struct.pack(">HHB", height, width, 3) + b"".join(bytes([one, 0x11, 0]) for one in components)
    scan = b"\x03" + b"".join(bytes([one, 0]) for one in components) + b"\x01\0\0"
    coded = bytes(-(-height * width * 3 // 8))
    return b"\xff\xd8" + _segment(0xC3, frame) + tables + _segment(0xDA, scan) + coded + b"\xff\xd9"


def _segment(marker, content):
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def mutant(rng, data):
    """Return the file with a few bytes changed, left out, doubled or put in."""
    mutated = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(2, len(mutated)), rng.randint(1, 8)
        mutated[at : at + rng.choice((0, length))] = rng.choice(
            (b"", rng.randbytes(length), mutated[at : at + length], b"\xff" + rng.randbytes(1))
        )
    return bytes(mutated)


def outcome(data, needed_hw=None):
    """Return the pixels, or the error that a client gets. ``needed_hw``: the size at which the image is used."""
    try:
        photo = decode_image(data, LIMITS, lambda size_hw: needed_hw or size_hw)
        image = photo.upright()
    except SegmentError as error:
        return type(error), error.detail
    return photo.size_hw, photo.factor, image.size, image.tobytes()


def differs(data, needed_hw=None):
    """Return True if the function decodes a file in another way than Pillow alone."""
    found = outcome(data, needed_hw)
    with mock.patch.object(turbo, "decode", return_value=None):
        return found != outcome(data, needed_hw)


def decode_mutants(seed):
    """Decode ROUND files; exit with 1 at the first that differs. The file at hand lies in FOLDER."""
    rng, at_hand = random.Random(seed), FOLDER / f"{seed}.jpg"
    for _ in range(ROUND):
        data = mutant(rng, rng.choice(whole()))
        at_hand.write_bytes(data)
        if differs(data, rng.choice((None, (16, 24)))):
            sys.exit(1)
    at_hand.unlink()


def main():
    """Run processes until the time is over."""
    parser = argparse.ArgumentParser(prog="python -m tests.handler.image.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (%(default)g)")
    parser.add_argument("--seed", type=int, help="decode the files of one process")
    args = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    if args.seed is not None:
        decode_mutants(args.seed)
        return
    end_s = time.monotonic() + 60 * args.minutes
    first = time.time_ns()
    with tqdm(unit="file") as progress:
        for seed in range(first, first + 10**9):
            if time.monotonic() > end_s:
                break
            done = subprocess.run([sys.executable, "-m", "tests.handler.image.fuzz", f"--seed={seed}"], check=False)
            if done.returncode:
                sys.exit(f"exit status {done.returncode} at {FOLDER / f'{seed}.jpg'}")
            progress.update(ROUND)


if __name__ == "__main__":
    main()
