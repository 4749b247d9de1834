"""The client of one model on TensorFlow Serving.

``client`` matches contracts with versions. ``channel`` calls over gRPC, with ``tls`` and ``tokens``, when ``turns``
lets it. ``wire`` turns arrays into messages and back, with ``protos`` and ``varint``. ``metadata`` derives a contract
from a signature. May import all of handler but ``web`` and ``config``; it uses ``model``, ``types`` and ``errors``.
"""
