"""What stands before a private service of a cloud: it ends TLS, wants an ID token, and hands the call on.

And the metadata server that gives such tokens. Both speak the real protocols: the tokens are signed, and checked by
google-auth's own verification.
"""

import base64
import json
import threading
import time
import urllib.parse
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from google.auth import crypt, jwt


class MetadataServer:
    """Answers as a cloud's metadata server on the questions that google-auth asks; ``fault`` changes how."""

    def __init__(self, key, cert):
        self.key, self.cert = key, cert
        self.fault = ""
        self.lifetime_s = 3600
        self.given = []  # tokens
        self.address = ""  # host:port once it listens

    def answer(self, path):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)
        if path == "/":
            return 200, b"computeMetadata/"
        if "/identity" not in path:
            return 200, b'{"email": "segment@a-project.iam.gserviceaccount.com", "scopes": []}'
        if self.fault == "unavailable":
            return 503, b"try again"
        if self.fault == "no account":
            return 404, b"no service account"
        if self.fault == "garbage":
            return 200, b"SECRET.but.no-token"
        token = self.token(query["audience"][0])
        return 200, token

    def exchange(self, form):
        """Answer as a token_uri: what an account's key signed is worth an ID token for the audience in it."""
        assertion = urllib.parse.parse_qs(form)["assertion"][0]
        if self.fault == "no id_token":
            return 200, b'{"access_token": "SECRETACCESS"}'
        wanted = jwt.decode(assertion, certs=self.cert)["target_audience"]
        return 200, json.dumps({"id_token": self.token(wanted).decode()}).encode()

    def token(self, audience):
        audience = "https://other.example" if self.fault == "other audience" else audience
        now = int(time.time()) - (7200 if self.fault == "expired" else 0)
        claims = {"aud": audience, "iat": now, "exp": now + self.lifetime_s, "n": len(self.given)}
        token = jwt.encode(crypt.RSASigner.from_string(self.key, "k"), claims)
        self.given.append(token.decode())
        return token


@contextmanager
def metadata_server(state):
    """Yield host:port of a metadata server."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if state.fault == "hangs":
                time.sleep(30)
            self.reply(*state.answer(self.path))

        def do_POST(self):
            self.reply(*state.exchange(self.rfile.read(int(self.headers["Content-Length"])).decode()))

        def reply(self, status, body):
            self.send_response(status)
            self.send_header("Metadata-Flavor", "Google")
            self.send_header("Content-Type", "application/json" if body.startswith(b"{") else "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class FrontDoor:
    """Lets calls pass that carry a token for ``audience``; those of ``revoked`` do not."""

    def __init__(self, audience, cert, target):
        self.audience, self.cert = audience, cert
        self.revoked = set()
        self.quotes = False  # the token in what it says
        self.passed = 0
        self._channel = grpc.insecure_channel(target, options=[("grpc.max_receive_message_length", -1)])

    def close(self):
        self._channel.close()

    def call(self, method, request, context):
        token = dict(context.invocation_metadata()).get("authorization", "").removeprefix("Bearer ")
        if not token:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "Received http2 header with status: 403")
        try:
            jwt.decode(token, certs=self.cert, audience=self.audience)
        except ValueError:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "Received http2 header with status: 401")
        if token in self.revoked:
            said = f"no longer good: Bearer {token}" if self.quotes else "Received http2 header with status: 401"
            context.abort(grpc.StatusCode.UNAUTHENTICATED, said)
        self.passed += 1
        try:
            return self._channel.unary_unary(method)(request, timeout=context.time_remaining())
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())


@contextmanager
def front_door(door, pair):
    """Yield host:port where ``door`` answers over TLS with the certificate of ``pair``."""

    class AnyMethod(grpc.GenericRpcHandler):
        def service(self, details):
            def call(request, context):
                return door.call(details.method, request, context)

            return grpc.unary_unary_rpc_method_handler(call)

    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((AnyMethod(),))
    credentials = grpc.ssl_server_credentials([(pair.key.encode(), pair.cert.encode())])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
        door.close()


def claims(token):
    """Return what a token says, unverified."""
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
