"""The function, in the order an image travels through it.

============ ===========================================================================================
web          HTTP: a request -> image bytes and options; instances -> the answer that the client asked for
image        image bytes -> an RGB image, decoded within bounds
model        the contract with the model; an image -> its input tensors; its output tensors -> detections
backend      the client of TensorFlow Serving: versions, gRPC, TLS, tensors on the wire
masks        probabilities and boxes -> pixels of the image, as RLE, polygons, PNG or float32
pipeline     the story, a stage a line; the model is a callable, so nothing there knows of a network
============ ===========================================================================================

Beside them stand ``options`` (of a request), ``config`` (settings of the process), ``errors`` (whose fault, and which
status), ``log``, and ``malloc`` (how much freed memory to keep).

Imports go one way: web, backend > pipeline > masks, model > image > options > errors. ``web`` and ``backend`` never
meet; ``main.py`` joins them. Nothing here imports TensorFlow.
"""

__version__ = "1.0.0"
