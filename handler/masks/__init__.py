"""Mask probabilities and boxes -> the pixels of each object, in the encodings that clients ask for.

``spans`` finds the pixels. ``rle`` and ``polygons`` encode them; ``encodings`` has one encoder per option value, with
the JSON types of ``schemas``. May import ``image``, ``options``, ``types``, ``errors`` and ``log``.
"""
