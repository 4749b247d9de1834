"""An answer drawn over its photograph: translucent masks, outlines, boxes, labels and scores.

supervision draws the same, from a bool mask of the whole photograph for every instance: 12 MB each for a phone's.
"""

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from pycocotools import mask as coco

Colour = tuple[int, int, int]
SMALL_PX = 1000  # a photograph up to this side is drawn at twice its size: labels can be read
FILL, EDGE = 0.42, 0.95  # opacity of a mask and of its outline
GOLDEN = 0.618034  # hues this far apart (of a turn) never come close to one another


@dataclass(frozen=True)
class _Scale:
    """Sizes in pixels of the drawing."""

    zoom: int
    line: int
    font: int


def draw(photo: Image.Image, instances: Sequence[Mapping[str, Any]]) -> Image.Image:
    """Draw ``instances`` (of a ``format=instances`` answer, masks as RLE) on a copy of the RGB photo."""
    width, height = photo.size
    zoom = 2 if max(height, width) <= SMALL_PX else 1
    longer = zoom * max(height, width)
    scale = _Scale(zoom, line=max(1, longer // 700), font=max(12, longer // 64))
    canvas = photo.resize((zoom * width, zoom * height), Image.Resampling.LANCZOS)
    coloured = [(instance, _colour(place)) for place, instance in enumerate(instances)]
    for instance, colour in reversed(coloured):  # the best score ends on top
        if instance["mask"] is not None:
            _paint_mask(canvas, instance["mask"], colour, scale)
    for instance, colour in reversed(coloured):
        _draw_box(canvas, instance["box"], colour, scale)
    for instance, colour in reversed(coloured):
        _draw_label(canvas, instance, colour, scale)
    return canvas


def _colour(place: int) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(place * GOLDEN % 1, 0.72, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _paint_mask(canvas: Image.Image, rle: Mapping[str, Any], colour: Colour, scale: _Scale) -> None:
    bits = coco.decode({"size": list(rle["size"]), "counts": rle["counts"]})
    cover = Image.fromarray(bits * np.uint8(255)).resize(canvas.size, Image.Resampling.BICUBIC)
    area = cover.getbbox()
    if area is None:
        return
    margin = 2 * scale.line + 1
    left, top = max(0, area[0] - margin), max(0, area[1] - margin)
    cover = cover.crop((left, top, min(canvas.width, area[2] + margin), min(canvas.height, area[3] + margin)))
    width = 2 * scale.line + 1
    outer = np.asarray(cover.filter(ImageFilter.MaxFilter(width)), np.float32)
    inner = np.asarray(cover.filter(ImageFilter.MinFilter(width)), np.float32)
    opacity = np.maximum(FILL * np.asarray(cover, np.float32), EDGE * (outer - inner))
    canvas.paste(colour, (left, top), Image.fromarray(opacity.astype(np.uint8)))


def _draw_box(canvas: Image.Image, box: Mapping[str, int], colour: Colour, scale: _Scale) -> None:
    left, top = scale.zoom * box["x"], scale.zoom * box["y"]
    corner = (left + scale.zoom * box["width"] - 1, top + scale.zoom * box["height"] - 1)
    ImageDraw.Draw(canvas).rectangle([(left, top), corner], outline=colour, width=scale.line)


def _draw_label(canvas: Image.Image, instance: Mapping[str, Any], colour: Colour, scale: _Scale) -> None:
    """Write label and score on a tab above the box, or inside the box if there is no room above."""
    text = f"{name(instance)} {instance['score']:.2f}"
    font = ImageFont.load_default(scale.font)
    pen = ImageDraw.Draw(canvas)
    pad = max(2, scale.font // 5)
    _, _, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = round(right) + 2 * pad, round(bottom) + 2 * pad
    left = max(0, min(scale.zoom * instance["box"]["x"], canvas.width - width))
    top = scale.zoom * instance["box"]["y"] - height
    top = top if top >= 0 else scale.zoom * instance["box"]["y"]
    pen.rectangle([(left, top), (left + width - 1, top + height - 1)], fill=colour)
    pen.text((left + pad, top + pad), text, fill=(16, 16, 16), font=font)


def name(instance: Mapping[str, Any]) -> str:
    """Return the instance's label, or its class id if it has none."""
    return str(instance["label"] or f"class {instance['class_id']}")
