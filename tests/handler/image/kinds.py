"""Images of every kind that costs memory in a way of its own."""

import io

import numpy as np
from PIL import Image


def encode(image, kind, **options):
    body = io.BytesIO()
    image.save(body, kind, **options)
    return body.getvalue()


def turned():
    exif = Image.Exif()
    exif[274] = 6
    return exif


def make(width, height):
    """Yield names and encoded images of smooth colours with a little noise."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 4, (height, width), np.uint8)
    grey = ((x * 200 // width + y * 50 // height) + noise).astype(np.uint8)
    rgb = Image.fromarray(np.dstack([grey, 255 - grey, grey // 2]))
    alpha = Image.fromarray(255 - grey)
    flat = Image.fromarray(grey)
    palette = rgb.quantize(16, method=Image.Quantize.FASTOCTREE)
    both = rgb.copy()
    both.putalpha(alpha)
    grey_alpha = Image.merge("LA", (flat, alpha))
    yield "PNG RGB", encode(rgb, "PNG", compress_level=1)
    yield "PNG RGB turned", encode(rgb, "PNG", compress_level=1, exif=turned())
    yield "PNG L", encode(flat, "PNG", compress_level=1)
    yield "PNG 1", encode(flat.convert("1"), "PNG", compress_level=1)
    yield "PNG P", encode(palette, "PNG", compress_level=1)
    yield "PNG P transparent", encode(palette, "PNG", compress_level=1, transparency=bytes(range(0, 160, 10)))
    yield "PNG RGBA", encode(both, "PNG", compress_level=1)
    yield "PNG LA", encode(grey_alpha, "PNG", compress_level=1)
    yield "PNG RGB transparent", encode(rgb, "PNG", compress_level=1, transparency=rgb.getpixel((0, 0)))
    yield "PNG L transparent", encode(flat, "PNG", compress_level=1, transparency=100)
    yield "PNG I;16", encode(Image.fromarray(grey.astype(np.uint16) * 257), "PNG", compress_level=1)
    yield "WEBP lossy", encode(rgb, "WEBP", method=0)
    yield "WEBP lossless", encode(rgb, "WEBP", method=0, lossless=True, quality=0)
    yield "WEBP transparent", encode(both, "WEBP", method=0)
    yield "JPEG", encode(rgb, "JPEG", quality=95)
    yield "JPEG turned", encode(rgb, "JPEG", quality=95, exif=turned())
    yield "JPEG L", encode(flat, "JPEG", quality=95)
    yield "JPEG progressive", encode(rgb, "JPEG", quality=95, progressive=True)
    yield "JPEG progressive 4:4:4", encode(rgb, "JPEG", quality=95, progressive=True, subsampling=0)
    yield "JPEG progressive L", encode(flat, "JPEG", quality=95, progressive=True)
    yield "JPEG CMYK", encode(rgb.convert("CMYK"), "JPEG", quality=95)
    yield "JPEG progressive CMYK", encode(rgb.convert("CMYK"), "JPEG", quality=95, progressive=True)
    yield "JPEG without an end", encode(rgb, "JPEG", quality=95)[:-2]
    yield "JPEG progressive without an end", encode(rgb, "JPEG", quality=95, progressive=True)[:-2]
    yield "GIF", encode(palette, "GIF")
    yield "GIF transparent", encode(palette, "GIF", transparency=3)
    yield "BMP", encode(rgb, "BMP")
    yield "BMP P", encode(palette, "BMP")
    yield "TIFF", encode(rgb, "TIFF")
    yield "TIFF LZW", encode(rgb, "TIFF", compression="tiff_lzw")
    yield "TIFF JPEG", encode(rgb, "TIFF", compression="jpeg")
    yield "TIFF I;16", encode(Image.fromarray(grey.astype(np.uint16) * 257), "TIFF", compression="tiff_lzw")
    yield "TIFF CMYK", encode(rgb.convert("CMYK"), "TIFF", compression="tiff_lzw")
    yield "TIFF RGBA", encode(both, "TIFF", compression="tiff_adobe_deflate")
    yield "AVIF", encode(rgb, "AVIF", speed=10, quality=60)
    yield "AVIF 4:4:4", encode(rgb, "AVIF", speed=10, quality=90, subsampling="4:4:4")
    yield "AVIF transparent", encode(both, "AVIF", speed=10, quality=60)


def extremes(pixels):
    """Yield names and images of one row, of one column, and of the widest JPEG."""
    yield "one column", encode(Image.new("L", (1, pixels)), "PNG")
    yield "one column of RGB", encode(Image.new("RGB", (1, pixels)), "PNG")
    yield "one row", encode(Image.new("P", (pixels, 1)), "PNG", transparency=0)
    yield "one row of RGBA", encode(Image.new("RGBA", (pixels, 1)), "PNG")
    yield "widest JPEG", encode(Image.new("RGB", (65000, pixels // 65000)), "JPEG")
    yield "widest JPEG without an end", encode(Image.new("CMYK", (65000, pixels // 65000)), "JPEG")[:-2]
