"""Probabilities and boxes -> the pixels of each object, as clients want them.

``spans`` finds the pixels; ``rle`` and ``polygons`` write them down; ``encodings`` chooses. May import ``options`` and
``errors``.
"""
