"""How many cases a test takes: few in the daily tests, many in the campaigns (``pytest --campaign``).

``tests/conftest.py`` sets ``CAMPAIGN`` before any test module is imported, and gives Hypothesis its number of examples.
"""

CAMPAIGN = False
EXAMPLES = {"daily": 40, "campaign": 500}  # of each Hypothesis test


def pick(daily, campaign):
    """Return what a run of this kind takes."""
    return campaign if CAMPAIGN else daily
