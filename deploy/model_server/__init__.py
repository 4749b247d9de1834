"""A development stand-in for TensorFlow Serving: same flags, same gRPC answers, plain Python (README.md).

Knows no example model. Imports deploy.tools and nothing else of the project.

================  ====================================================================================
``flags``         command line <-> one frozen value
``errors``        a failure with its canonical status code and TensorFlow Serving's wording
``models``        what to serve: names, base paths, version policies, labels
``ssl_config``    ``--ssl_config_file`` -> the server's credentials
``varints``       integers -> packed protobuf bytes, vectorised
``tensors``       TensorProto -> array; array -> TensorProto bytes, as proto fields or as tensor_content
``servable``      one SavedModel version in a session of its own
``versions``      base path -> loaded versions: watch, load, retry, retire, remember
``predict``       PredictRequest bytes -> PredictResponse bytes
``services``      every RPC method, by path, from bytes to bytes
``server``        the gRPC server and the models' watchers, as one resource
================  ====================================================================================
"""
