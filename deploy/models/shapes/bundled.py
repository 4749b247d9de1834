"""The bundled model as the exporter takes it: builder, weights, and settings. Imports no TensorFlow."""

from pathlib import Path

from handler.model.contract import MATTERPORT_MEAN, AnchorInput, MatterportSettings, Resize

BUILDER = "deploy.models.shapes.network:build"
WEIGHTS = Path(__file__).parent / "shapes.weights.h5"
SETTINGS = MatterportSettings(
    resize=Resize(mode="pad64", min_dim=0, max_dim=1024),
    mean=MATTERPORT_MEAN,
    anchors=AnchorInput(scales=(12, 24, 48, 96, 192), ratios=(0.5, 1, 2), strides=(4, 8, 16, 32, 64)),
    labels=("circle", "square", "triangle"),
)
ENVIRONMENT = {  # the same settings for a function in front of an export without a contract
    "IMAGE_RESIZE_MODE": SETTINGS.resize.mode,
    "IMAGE_MIN_DIM": str(SETTINGS.resize.min_dim),
    "IMAGE_MAX_DIM": str(SETTINGS.resize.max_dim),
    "RPN_ANCHOR_SCALES": ",".join(str(scale) for scale in SETTINGS.anchors.scales),
    "CLASS_NAMES": ",".join(SETTINGS.labels),
}
