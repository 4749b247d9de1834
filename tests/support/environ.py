"""An environment that tells what was asked of it."""


class Asked(dict):
    """An environment without variables that remembers which were asked for."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def get(self, name, default=None):
        self.names.add(name)
        return default
