"""``--ssl_config_file``: a text SSLConfig -> the server's credentials.

tensorflow-serving-api ships every config message but this one, which is therefore built here. Source:
tensorflow_serving ``config/ssl_config.proto`` for names and numbers, ``model_servers/server.cc`` for their use.
"""

from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from deploy.model_server.errors import StartError


def credentials(path: Path) -> Any:
    """Return the gRPC server credentials of a text SSLConfig. Raises StartError."""
    config = _message()()
    try:
        text_format.Parse(path.read_text(encoding="utf-8"), config)
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise StartError(f"--ssl_config_file {path} must be a text SSLConfig: {error}") from error
    try:
        return grpc.ssl_server_credentials(
            [(config.server_key.encode(), config.server_cert.encode())],
            root_certificates=config.custom_ca.encode() or None,
            require_client_auth=config.client_verify,
        )
    except ValueError as error:  # client_verify without custom_ca
        raise StartError(f"--ssl_config_file {path} cannot be used: {error}") from error


def _message() -> Any:
    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="segment/ssl_config.proto", package="segment", syntax="proto3")
    message = file.message_type.add(name="SSLConfig")
    for number, name in enumerate(("server_key", "server_cert", "custom_ca", "client_verify"), start=1):
        field = kind.TYPE_BOOL if name == "client_verify" else kind.TYPE_STRING
        message.field.add(name=name, number=number, type=field, label=kind.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("segment.SSLConfig"))
