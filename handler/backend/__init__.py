"""The client of one model on TensorFlow Serving.

``client`` keeps contracts and versions together; ``channel`` calls over gRPC (``tls``, ``tokens``); ``wire`` turns
arrays into messages and back (``protos``, ``varint``); ``metadata`` derives a contract from a signature. May import
``model`` and ``errors``.
"""
