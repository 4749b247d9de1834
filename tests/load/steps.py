"""Users in equal steps over the run, to see where the rate stops rising; given to Locust beside locustfile.py."""

import math

from locust import LoadTestShape


class Steps(LoadTestShape):
    """--users are reached in the last of --steps steps, which take --run-time together."""

    use_common_options = True

    def tick(self):
        options = self.runner.environment.parsed_options
        passed = self.get_run_time() / options.run_time
        if passed >= 1:
            return None
        users = math.ceil(options.num_users * (math.floor(passed * options.steps) + 1) / options.steps)
        return users, options.spawn_rate
