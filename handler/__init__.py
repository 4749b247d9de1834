"""The function, in the order an image travels through it.

========== ==============================================================================================
web        routes, answers and errors; a line of log for each request (access: API keys, CORS)
bodies     the body of a POST -> image bytes and options (options: their types and what they allow)
image      bytes -> RGB image (jpeg: the bounds of its scans; decoded smaller where that shows the same)
mold       image -> model frame and window; boxes -> image pixels
quantize   real values -> int8 codes; int8 codes -> float32
wire       arrays -> PredictRequest bytes; PredictResponse bytes -> arrays (protos: its message types; varint)
serving    the client of one model: its contract, its versions, Predict
channel    bytes -> bytes over gRPC: deadline, retries, status codes -> errors (tls: certificates; tokens: ID tokens)
masks      float masks and boxes -> pixels of the image (spans), and these as clients want them (rle, polygons)
formats    instances -> the JSON that clients ask for (shapes: its types; openapi: their description)
pipeline   the story, a stage a line, with the transport as a callable
========== ==============================================================================================

Beside the road stand ``contract`` (what client and model agreed on), ``signature`` (the same, read from a model that
carries no contract), ``config`` (settings; environ: variables -> values), ``errors`` (whose fault, and which status),
``log``, and ``memory`` (what malloc keeps). Nothing here imports TensorFlow.
"""

__version__ = "1.0.0"
