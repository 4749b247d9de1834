"""The function and its packages, in the order in which an image passes through them.

============ ===========================================================================================
web          HTTP: a request -> image bytes and options; instances -> the answer format of the client
image        image bytes -> an RGB image, decoded within bounds
model        the contract with the model; an image -> input tensors; output tensors -> detections
backend      the client of TensorFlow Serving: versions, gRPC, TLS, tensors on the wire
masks        probabilities and boxes -> masks in image pixels, as RLE, polygons, PNG or float32
pipeline     all stages for one image, a line each; the model is a callable, so no network is needed
============ ===========================================================================================

``page`` is the page that browsers get at ``/``, with its client package. The other modules: ``options`` (of a request),
``config`` (settings of the process), ``errors`` (one class for each HTTP status), ``types``, ``log``, ``memory`` (how
much decoding may take at once), ``machine`` (what the process may use), and ``malloc`` (how much freed memory it
keeps).

Imports go one way: config > web, backend > pipeline > masks, model > image > options, memory > types, errors, log,
machine, malloc, page. ``web`` and ``backend`` never import each other; ``main.py`` joins them. Nothing here imports
TensorFlow.
"""

__version__ = "1.0.0"
