"""Image bytes -> an RGB image.

``decode`` checks the limits and decodes images of every kind. ``jpeg`` limits the scans of a JPEG and decides whether
to decode it at a reduced size. May import ``options``, ``types``, ``errors`` and ``log``.
"""
