"""Image bytes -> an RGB image.

``decode`` checks the limits and decodes images of every kind; ``kinds`` names what the bytes are. ``cost`` tells what
decoding takes, and ``colours`` converts the pixels to RGB, few at a time. ``jpeg`` limits the
scans of a JPEG, decides whether to decode it at a reduced size, and completes one without an end marker. ``turbo``
decodes ordinary JPEGs, Pillow all others. ``png`` leaves out what decides no pixel, ``tiff`` refuses samples that would
be misread, ``heic`` loads the package for HEIC.
May import ``options``, ``types``, ``errors`` and ``log``.
"""
