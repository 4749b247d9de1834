"""Clients that take their time, and clients that go away."""

import http.client
import select
import socket
import struct
import time

from tests.faults.row import LEFT
from tests.support.processes import HOST

BYTE_S = 1.0
SLOW = frozenset({200, 408, LEFT})
ANSWER_S = 60.0


def slow(row, function, photo, last, over):
    """Send a photograph, its ``last`` bytes a byte a second; go away when it is over."""
    with _connected(function, photo, len(photo) - last) as connection:
        try:
            row.add(_finish(connection, photo[len(photo) - last :], over), allowed=SLOW)
        except (OSError, http.client.HTTPException) as error:
            row.add(type(error).__name__, allowed=SLOW)


def _finish(connection, rest, over):
    """Return the status of the answer, which may come before the last byte."""
    for place in range(len(rest)):
        if select.select([connection], [], [], BYTE_S)[0]:
            break
        if over.is_set():
            return LEFT
        connection.sendall(rest[place : place + 1])
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer.status


def vanish(row, function, photo):
    """Send a photograph, or a part of it, and go away: with a FIN, or with a RST as when an app is ended."""
    sent = row.rng.choice([row.rng.randrange(len(photo)), len(photo)])
    with _connected(function, photo, sent) as connection:
        time.sleep(row.rng.uniform(0, 0.1))
        if row.rng.random() < 0.5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    row.add(LEFT, allowed=SLOW)


def _connected(function, photo, sent):
    """Return a connection that has sent the headers and as many bytes."""
    connection = socket.create_connection((HOST, function.port), ANSWER_S)
    head = f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(photo)}\r\n\r\n"
    connection.sendall(head.encode() + photo[:sent])
    return connection
