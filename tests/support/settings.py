"""What the function can be told."""

import msgspec

from handler.config import Config

VARIABLES = {field.encode_name for field in msgspec.structs.fields(Config)}
