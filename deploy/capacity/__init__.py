"""What a rate of photographs needs, computed from the figures of ``make bench``: ``python -m deploy.capacity``.

figures.py reads what one request costs, plan.py works out what a rate of them needs, page.py and picture.py show it.
"""
