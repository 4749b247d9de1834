"""Image bytes -> an RGB image.

``decode`` checks and decodes every kind of image; ``jpeg`` bounds the scans of a JPEG and decides whether a smaller
decode shows the same. May import ``options`` and ``errors``.
"""
