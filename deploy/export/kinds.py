"""Kinds of export and dialects of models: names alone, for a command line without TensorFlow."""

from typing import Literal, get_args

DEFAULT = "int8"
KINDS = {
    DEFAULT: "Lossless int8 image up, each detection's int8 mask down, self-describing: the one to deploy.",
    "int8-cast": "The recipe's int8 casts, which lose what does not fit, for clients that run it; Matterport only.",
    "float32": "No casts: the baseline for comparisons; Matterport only.",
    "check": "What an int8 export of a model would be: its dialect, tensors, bytes and objects. Writes nothing.",
    "report": "What each of them costs and saves on your own images, as a page to look at.",
}
Dialect = Literal["matterport", "object-detection", "model-garden", "yolo"]
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)
WRAP = 'wrap the model in a function of RGB pixels (deploy/export/README.md, "A model that is not taken")'
