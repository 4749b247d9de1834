"""The contract with the model, and the arithmetic that follows from it.

``contract`` holds tensors, quantization, resize rule and labels. ``mold`` brings an image into the model's frame, and
boxes back. ``quantize`` turns values into codes, and back. ``detections`` reads the model's output. May import
``image``, ``options``, ``types``, ``errors`` and ``log``.
"""
