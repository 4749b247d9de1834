"""A development stand-in for TensorFlow Serving: same flags, same gRPC answers, plain Python.

    python -m deploy.model_server --port=8500 --model_name=mask_rcnn --model_base_path=/models/mask_rcnn

Wherever its flags exist in TensorFlow Serving they carry the same names, so the real binary can take its place.
Differences, all deliberate:

* it listens on 127.0.0.1 unless ``--grpc_bind_address`` says otherwise (TensorFlow Serving: every interface);
* ``--port=0`` without ``--grpc_socket_path`` picks a free port (TensorFlow Serving: no TCP port);
* more concurrent calls than ``--grpc_max_threads`` queue (TensorFlow Serving: RESOURCE_EXHAUSTED);
* Classify, Regress, MultiInference, SessionRun, HandleReloadConfigRequest, REST, batching and warm-up do not exist.

================  ====================================================================================
``flags``         command line <-> one frozen value
``errors``        a failure with its canonical status code and TensorFlow Serving's wording
``models``        what to serve: names, base paths, version policies, labels
``varints``       integers -> packed protobuf bytes, vectorised
``tensors``       TensorProto -> array; array -> TensorProto bytes, as proto fields or as tensor_content
``servable``      one SavedModel version in a session of its own
``versions``      base path -> loaded versions: watch, load, retry, retire, remember
``predict``       PredictRequest bytes -> PredictResponse bytes
``services``      every RPC method, by path, from bytes to bytes
``server``        the gRPC server and the models' watchers, as one resource
================  ====================================================================================
"""
