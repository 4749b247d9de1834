"""Compressed responses."""

import zlib

import flask

MIN_BYTES = 1400  # a smaller response fits in one packet already
LEVEL = 1  # on these responses, 2 to 10 times as fast as the default 6, for up to 25 % more bytes
MAX_RATIO = 0.9  # of compressed to plain size; above it, send the plain response
WBITS = 31  # zlib's largest window, with a gzip header


def compress(request: flask.Request, response: flask.Response) -> None:
    """Compress the response by gzip if the client accepts it and the response shrinks enough."""
    plain = response.get_data()
    if len(plain) < MIN_BYTES:
        return
    response.vary.add("Accept-Encoding")
    if request.accept_encodings["gzip"] <= 0:
        return
    packer = zlib.compressobj(LEVEL, wbits=WBITS)
    packed = packer.compress(plain) + packer.flush()
    if len(packed) <= MAX_RATIO * len(plain):
        response.set_data(packed)
        response.headers["Content-Encoding"] = "gzip"
