"""The settings: one field per environment variable, read once at the start."""

import math
import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args, get_origin

import msgspec
from msgspec import Meta

from handler.backend.tls import Tls
from handler.errors import ConfigError, ContractViolation
from handler.image.decode import Limits
from handler.image.kinds import Kind
from handler.model.contract import MATTERPORT_MEAN, AnchorInput, MatterportSettings, Resize
from handler.pipeline import Transport

ADDRESS = r"^([^/\s]+:\d{1,5}|(dns|unix|unix-abstract|ipv4|ipv6|vsock|xds):\S+)$"
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s?#,*@]+|null")  # apps have schemes of their own, such as capacitor
HEADER = re.compile(r"[\w!#$%&'+.^`|~-]+", re.ASCII)
DEFAULT_PORTS = {"http": ":80", "https": ":443"}
SECRET = re.compile(r"[\x21-\x7e]+")
ANCHORS = AnchorInput()

Text = Annotated[str, Meta(min_length=1, description="a non-empty text")]
Switch = Annotated[Literal["off", "on"], Meta(description="one of off, on")]
Count = Annotated[int, Meta(ge=1, description="a whole number from 1")]
Kinds = Annotated[
    tuple[Kind, ...], Meta(min_length=1, description=f"some of {', '.join(get_args(Kind))}, comma-separated")
]
Positives = Annotated[
    tuple[Annotated[float, Meta(gt=0)], ...], Meta(min_length=1, description="some positive numbers, comma-separated")
]


class Config(msgspec.Struct, frozen=True, kw_only=True, rename=str.upper):
    """The settings of the process. Each field is an environment variable in lower case.

    If ``tf_serving_audience`` is empty, no ID token is sent. If ``model_version`` and ``model_version_label`` are
    empty, the latest version is used. The fields from ``model_outputs`` on describe a model without a contract.
    """

    tf_serving_address: Annotated[
        str,
        Meta(
            pattern=ADDRESS,
            description="host:port, or an address that gRPC resolves (dns:///host:port, unix:/path, ...)",
        ),
    ] = "localhost:8500"
    tf_serving_tls: Switch = "off"
    tf_serving_ca_file: str = ""
    tf_serving_cert_file: str = ""
    tf_serving_key_file: str = ""
    tf_serving_server_name: str = ""
    tf_serving_audience: Annotated[
        str,
        Meta(pattern=r"^(https?://\S+)?$", description="the URL of a service, such as https://model.example.com"),
    ] = ""
    model_name: Text = "shapes"
    model_version: Annotated[
        Annotated[int, Meta(ge=0, lt=10**18)] | None,
        Meta(description="the number of a version, or empty for the latest"),
    ] = None
    model_version_label: str = ""
    deadline_s: Annotated[float, Meta(gt=0, le=3600, description="a number above 0, 3600 at most")] = 20.0
    model_concurrency: Annotated[
        Annotated[int, Meta(ge=0)] | None, Meta(description="a whole number from 0, or empty for no limit")
    ] = None
    threads: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="a whole number from 1, or not set for four a core")
    ] = None
    client_timeout_s: Annotated[float, Meta(gt=0, le=3600, description="a number above 0, 3600 at most")] = 60.0
    keep_alive_s: Annotated[int, Meta(ge=0, le=3600, description="a whole number, 0 to 3600")] = 620
    max_body_bytes: Count = 20 << 20
    max_images: Count = 16
    max_pixels: Count = Limits().max_pixels
    decode_memory_bytes: Annotated[
        Count | None, Meta(description="a whole number from 1, or empty for what the memory limit allows")
    ] = None
    image_kinds: Kinds = Limits().kinds
    image_transport: Annotated[Transport, Meta(description="one of int8, jpeg")] = "int8"
    cors_origins: Annotated[
        tuple[str, ...],
        Meta(
            description="origins such as https://example.com or capacitor://localhost, comma-separated, "
            "without a path, or * alone"
        ),
    ] = ()
    cors_headers: Annotated[
        tuple[str, ...], Meta(description="names of request headers such as X-Tenant, comma-separated")
    ] = ()
    api_keys: tuple[str, ...] = ()
    page: Annotated[Literal["off", "on"] | None, Meta(description="one of off, on, or empty")] = None
    google_cloud_project: str = ""
    model_outputs: Annotated[
        tuple[str, ...],
        Meta(description="2 names, comma-separated: the outputs with detections and with masks"),
    ] = ()
    image_resize_mode: Annotated[Literal["square", "pad64", "none"], Meta(description="one of square, pad64, none")] = (
        "square"
    )
    image_min_dim: Annotated[int, Meta(ge=0, description="a whole number from 0")] = 800
    image_max_dim: Count = 1024
    image_min_scale: Annotated[float, Meta(ge=0, description="a number from 0")] = 0.0
    mean_pixel: Annotated[tuple[float, float, float], Meta(description="3 numbers, comma-separated")] = MATTERPORT_MEAN
    rpn_anchor_scales: Positives = ANCHORS.scales
    rpn_anchor_ratios: Positives = ANCHORS.ratios
    backbone_strides: Annotated[
        tuple[Count, ...], Meta(min_length=1, description="positive whole numbers, comma-separated")
    ] = ANCHORS.strides
    class_names: tuple[str, ...] = ()

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings. Raises ConfigError with the variable, its allowed values and its value."""
        texts = [(field, environ.get(field.encode_name)) for field in msgspec.structs.fields(cls)]
        return cls(**{field.name: _convert(field, text) for field, text in texts if text is not None})

    def __post_init__(self) -> None:
        if not (self.cors_origins == ("*",) or all(map(ORIGIN.fullmatch, map(_normalise_origin, self.cors_origins)))):
            raise _config_error(type(self), "cors_origins", ", ".join(self.cors_origins))
        if not all(map(HEADER.fullmatch, self.cors_headers)):
            raise _config_error(type(self), "cors_headers", ", ".join(self.cors_headers))
        Limits(self.max_pixels, self.image_kinds)  # raises ConfigError if a kind needs a package that is missing
        for place, key in enumerate(self.api_keys, start=1):
            if not SECRET.fullmatch(key):  # the log gets this error, so it does not quote the key
                got = f"{len(key)} characters, not all of them allowed" if key else "an empty one"
                raise ConfigError(
                    f"API_KEYS must be keys of printable ASCII without spaces, got in place {place} {got}"
                )
        tls_alone = ("ca_file", "cert_file", "key_file", "server_name", "audience")
        unused = [f"tf_serving_{name}".upper() for name in tls_alone if getattr(self, f"tf_serving_{name}")]
        if unused and self.tf_serving_tls == "off":
            raise ConfigError(f"TF_SERVING_TLS must be on if {unused[0]} is set, got off")
        if bool(self.tf_serving_cert_file) != bool(self.tf_serving_key_file):
            raise ConfigError("TF_SERVING_CERT_FILE and TF_SERVING_KEY_FILE must be set together, got one of them")
        if self.model_version is not None and self.model_version_label:
            got = f"{self.model_version} and {self.model_version_label!r}"
            raise ConfigError(f"MODEL_VERSION or MODEL_VERSION_LABEL must be set, got both: {got}")
        if self.model_outputs and not (
            len(set(self.model_outputs)) == len(self.model_outputs) == 2 and all(self.model_outputs)
        ):
            raise _config_error(type(self), "model_outputs", ",".join(self.model_outputs))
        self.matterport  # noqa: B018 - raises ConfigError now, not during a request

    def __repr__(self) -> str:
        return f"Config({self.tf_serving_address}, {self.model_name})"  # without the API keys

    @property
    def origins(self) -> tuple[str, ...]:
        """The CORS origins as browsers send them."""
        return tuple(map(_normalise_origin, self.cors_origins))

    @property
    def requests_at_once(self) -> int:
        """How many requests a worker answers at once: as functions-framework reads it."""
        return self.threads or 4 * (os.cpu_count() or 1)

    @property
    def shows_page(self) -> bool:
        """True if browsers get the page: as set, else unless API keys are set."""
        return self.page == "on" if self.page else not self.api_keys

    @property
    def tls(self) -> Tls | None:
        """The TLS files for the model server, None for plaintext."""
        if self.tf_serving_tls == "off":
            return None
        return Tls(
            self.tf_serving_ca_file, self.tf_serving_cert_file, self.tf_serving_key_file, self.tf_serving_server_name
        )

    @property
    def matterport(self) -> MatterportSettings:
        """The settings for a Matterport model without a contract."""
        try:
            return MatterportSettings(
                resize=Resize.of_matterport(
                    self.image_resize_mode, self.image_min_dim, self.image_max_dim, self.image_min_scale
                ),
                mean=self.mean_pixel,
                anchors=AnchorInput(
                    scales=self.rpn_anchor_scales, ratios=self.rpn_anchor_ratios, strides=self.backbone_strides
                ),
                labels=self.class_names,
                outputs=self.model_outputs,
            )
        except ContractViolation as error:
            raise ConfigError(f"IMAGE_*, RPN_ANCHOR_* and BACKBONE_STRIDES must fit together: {error}") from error


def _convert(field: Any, text: str) -> Any:
    """Return the text of a variable as the field's type; lists are comma-separated."""
    kind = _without_meta(field.type)
    value: Any = text.strip()
    if get_origin(kind) is tuple:
        value = [part.strip() for part in value.split(",")] if value else []
    elif not value and type(None) in get_args(kind):
        return None
    try:
        text.encode()  # reject invalid UTF-8: it arrives as surrogates, which protobuf strings cannot hold
        converted = msgspec.convert(value, field.type, strict=False)
    except ValueError as error:
        raise _config_error(Config, field.name, text) from error
    numbers = converted if isinstance(converted, tuple) else (converted,)
    if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
        raise _config_error(Config, field.name, text)
    return converted


def _without_meta(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _config_error(config: type[Config], name: str, text: str) -> ConfigError:
    (field,) = (field for field in msgspec.structs.fields(config) if field.name == name)
    meta = [note for note in getattr(field.type, "__metadata__", ()) if isinstance(note, Meta)]
    allowed = meta[0].description if meta else "text in UTF-8"
    return ConfigError(f"{field.encode_name} must be {allowed}, got {text!r}")


def _normalise_origin(text: str) -> str:
    """Return an origin as browsers send it: in lower case, without its scheme's default port."""
    scheme, separator, host = text.partition("://")
    scheme = scheme.lower()
    if scheme not in DEFAULT_PORTS:
        return f"{scheme}{separator}{host}"
    return f"{scheme}{separator}{host.lower().removesuffix(DEFAULT_PORTS[scheme])}"
