"""HTTP: a request in, a response out.

``app`` handles a request, with ``routes`` for its path. ``bodies`` reads it, ``auth`` checks its API key, ``formats``
builds the answer from the types of ``schemas``, and ``cors`` and ``gzip`` finish the response. ``openapi`` describes
the interface. May import all of handler but ``backend`` and ``config``.
"""
