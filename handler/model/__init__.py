"""What client and model agreed on, and the arithmetic that follows from it.

``contract`` is the agreement. ``mold`` brings an image into the model's frame and boxes back out of it; ``quantize``
turns values into int8 codes and back. May import ``image`` and ``errors``.
"""
