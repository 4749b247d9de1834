"""Compressed answers."""

import zlib

import flask

MIN_BYTES = 1400  # an answer that fits in one packet gains nothing from being smaller
LEVEL = 1  # two to ten times as fast on such answers as the usual 6, for up to a quarter more bytes
MAX_SHARE = 0.9  # of the plain answer; above that it is sent plain
WBITS = 31  # zlib's largest window, with gzip's header


def compress(request: flask.Request, response: flask.Response) -> None:
    """Send gzip if the client takes it and the answer shrinks enough to be worth it."""
    plain = response.get_data()
    if len(plain) < MIN_BYTES:
        return
    response.vary.add("Accept-Encoding")
    if request.accept_encodings["gzip"] <= 0:
        return
    packer = zlib.compressobj(LEVEL, wbits=WBITS)
    packed = packer.compress(plain) + packer.flush()
    if len(packed) <= MAX_SHARE * len(plain):
        response.set_data(packed)
        response.headers["Content-Encoding"] = "gzip"
