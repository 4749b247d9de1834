"""HTTP: requests in, answers out.

``app`` routes a request and answers it. ``bodies`` reads it, ``access`` decides who may ask, ``formats`` writes the
answer in the types of ``schemas``, ``openapi`` describes them all. May import everything but ``backend``.
"""
