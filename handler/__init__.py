"""The function, in the order an image travels through it.

========== ==============================================================================================
web        HTTP request -> image bytes and options; result or error -> HTTP response (flask)
image      bytes -> RGB uint8 [H, W, 3]
mold       image -> model frame and window; boxes -> image pixels
quantize   real values -> int8 codes; int8 codes -> float32
wire       arrays -> PredictRequest bytes; PredictResponse bytes -> arrays (protos: its message types)
serving    the client of one model: its contract, its versions, Predict
channel    bytes -> bytes over gRPC: deadline, retries, status codes -> errors
masks      float mask and box -> run-length encoding over the image
formats    instances -> the JSON shapes that clients read
pipeline   the story, a stage a line, with the transport as a callable
========== ==============================================================================================

Beside the road stand ``contract`` (what client and model agreed on), ``signature`` (the same, read from a model that
carries no contract), ``config`` (settings) and ``errors`` (whose fault, and which status). Nothing here imports
TensorFlow.
"""
