"""Load on a function that is deployed, with real photographs and every answer checked: `python -m tests.load`.

traffic.py is what clients send, answers.py what must come back, verdict.py when a run has passed, locustfile.py joins
them to Locust, steps.py raises the users in steps, and __main__.py looks at the address before any load.
"""
