"""The settings, read once from the environment and then passed on; every one has a default."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from handler.backend.tls import Tls
from handler.environ import Reader
from handler.errors import ConfigError, ContractViolation
from handler.image.decode import KINDS, Limits
from handler.model.contract import AnchorInput, MatterportSettings, Resize

ADDRESS = re.compile(r"[^/\s]+:\d{1,5}|(dns|unix|unix-abstract|ipv4|ipv6|vsock|xds):\S+")
ADDRESSES = "host:port, or an address that gRPC resolves (dns:///host:port, unix:/path, ...)"
URL = "the URL of a service, such as https://model.example.com"
AUDIENCE = re.compile(r"(https?://\S+)?")
VERSION = re.compile(r"[0-9]{0,18}")  # int64, as TensorFlow Serving's
MATTERPORT_MEAN = (123.7, 116.8, 103.9)


@dataclass(frozen=True, slots=True)
class Config:
    """What the function was told.

    ``tls`` None is plaintext; ``audience`` "" sends no ID token; ``model_version`` None and ``model_label`` "" are the
    latest version. ``matterport`` describes a model without a contract, others ignore it.
    """

    address: str
    tls: Tls | None
    audience: str
    model: str
    model_version: int | None
    model_label: str
    deadline_s: float
    max_body_bytes: int
    max_pixels: int
    image_kinds: tuple[str, ...]
    cors_origins: tuple[str, ...]
    api_keys: tuple[str, ...] = field(repr=False)
    project: str
    matterport: MatterportSettings

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings; raises ConfigError that names the variable, what it must be and what it is."""
        read = Reader(environ)
        tls = _tls(read)
        version, label = _version(read)
        return cls(
            address=read.matching("TF_SERVING_ADDRESS", "localhost:8500", ADDRESS, ADDRESSES),
            tls=tls,
            audience=_audience(read, tls),
            model=read.text("MODEL_NAME", "shapes"),
            model_version=version,
            model_label=label,
            deadline_s=read.number("DEADLINE_S", 20.0, positive=True, high=3600),
            max_body_bytes=read.whole("MAX_BODY_BYTES", 20 << 20, low=1),
            max_pixels=read.whole("MAX_PIXELS", Limits().max_pixels, low=1),
            image_kinds=read.choices("IMAGE_KINDS", Limits().kinds, KINDS),
            cors_origins=read.origins("CORS_ORIGINS"),
            api_keys=read.secrets("API_KEYS"),
            project=read.text("GOOGLE_CLOUD_PROJECT", "", empty=True),
            matterport=_matterport(read),
        )


def _tls(read: Reader) -> Tls | None:
    on = read.choice("TF_SERVING_TLS", "off", ("off", "on")) == "on"
    variables = ("TF_SERVING_CA_FILE", "TF_SERVING_CERT_FILE", "TF_SERVING_KEY_FILE", "TF_SERVING_SERVER_NAME")
    given = {variable: read.text(variable, "", empty=True) for variable in variables}
    unused = [variable for variable, value in given.items() if value and not on]
    if unused:
        raise ConfigError(f"TF_SERVING_TLS must be on where {unused[0]} is set, got off")
    if bool(given["TF_SERVING_CERT_FILE"]) != bool(given["TF_SERVING_KEY_FILE"]):
        raise ConfigError("TF_SERVING_CERT_FILE and TF_SERVING_KEY_FILE must be set together, got one of them")
    return Tls(*given.values()) if on else None


def _audience(read: Reader, tls: Tls | None) -> str:
    audience = read.matching("TF_SERVING_AUDIENCE", "", AUDIENCE, URL)
    if audience and tls is None:
        raise ConfigError("TF_SERVING_TLS must be on where TF_SERVING_AUDIENCE is set, got off")
    return audience


def _version(read: Reader) -> tuple[int | None, str]:
    version = read.matching("MODEL_VERSION", "", VERSION, "the number of a version, or empty for the latest")
    label = read.text("MODEL_VERSION_LABEL", "", empty=True)
    if version and label:
        raise ConfigError(f"MODEL_VERSION or MODEL_VERSION_LABEL must be set, got both: {version} and {label!r}")
    return int(version) if version else None, label


def _matterport(read: Reader) -> MatterportSettings:
    mean = read.numbers("MEAN_PIXEL", MATTERPORT_MEAN, positive=False, count=3)
    labels = read.text("CLASS_NAMES", "", empty=True)
    try:
        return MatterportSettings(
            resize=Resize(
                mode="pad64"
                if read.choice("IMAGE_RESIZE_MODE", "square", ("square", "pad64")) == "pad64"
                else "square",
                min_dim=read.whole("IMAGE_MIN_DIM", 800, low=0),
                max_dim=read.whole("IMAGE_MAX_DIM", 1024, low=1),
                min_scale=read.number("IMAGE_MIN_SCALE", 0.0, positive=False),
            ),
            mean=(mean[0], mean[1], mean[2]),
            anchors=AnchorInput(
                scales=read.numbers("RPN_ANCHOR_SCALES", (32, 64, 128, 256, 512)),
                ratios=read.numbers("RPN_ANCHOR_RATIOS", (0.5, 1, 2)),
                strides=read.wholes("BACKBONE_STRIDES", (4, 8, 16, 32, 64)),
            ),
            labels=tuple(name.strip() for name in labels.split(",")) if labels else (),
        )
    except ContractViolation as error:
        raise ConfigError(f"IMAGE_*, RPN_ANCHOR_* and BACKBONE_STRIDES must fit together: {error}") from error
