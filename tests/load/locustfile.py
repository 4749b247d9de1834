"""Users that send the mix of traffic.py one after another: `locust -f tests/load/locustfile.py --host URL`.

`python -m tests.load` looks at the address first. In Locust's distributed mode the master judges.
"""

import time
from collections import Counter

import gevent
import locust.stats
from locust import FastHttpUser, constant, events, task
from locust.runners import LocalRunner, WorkerRunner

from tests.load import answers, traffic, verdict

ANSWER_S = 120
locust.stats.bucket_response_time = round  # to the millisecond; its own two digits would blur the criteria
watch = {}


class Client(FastHttpUser):
    """Sends the next photograph once the last is answered: as many users, as many requests at once."""

    wait_time = constant(0)
    insecure = False  # certificates are checked
    connection_timeout = 30.0
    network_timeout = float(ANSWER_S)

    @task
    def segment(self):
        asked = traffic.choose()
        photo = traffic.photo(asked.photo)
        with self.client.post(
            asked.path,
            data=photo.data,
            headers={"Content-Type": photo.kind, **watch["headers"]},
            name=asked.name,
            catch_response=True,
            allow_redirects=False,
        ) as response:
            try:
                if not response.status_code:
                    answers.none_came(response.error)
                answers.check(response.status_code, response.content, photo, asked.mask)
            except answers.AnswerError as error:
                response.failure(str(error))
            else:
                response.success()


@events.init_command_line_parser.add_listener
def add_options(parser):
    verdict.add_criteria(parser)
    parser.add_argument("--progress-s", type=float, default=5.0, help="seconds between lines of progress (5)")
    parser.add_argument("--steps", type=int, default=4, help="steps in which steps.py raises the users (4)")


@events.init.add_listener
def prepare(**_):
    """Make the photographs and the headers before the clock runs, so that no request waits for them."""
    watch["headers"] = traffic.headers()
    for asked in traffic.MIX:
        traffic.photo(asked.photo)
    gevent.sleep(0)  # lets gevent's clock catch up; the end of the run would be set by the time before all this


@events.test_start.add_listener
def start(environment, **_):
    watch["started_s"] = time.perf_counter()
    watch.pop("stopped_s", None)  # of a run before, in the web interface
    if isinstance(environment.runner, LocalRunner):  # a master hears of its workers every few seconds only
        watch["progress"] = gevent.spawn(progress, environment)


def totals(environment):
    total = environment.stats.total
    seconds = watch.get("stopped_s", time.perf_counter()) - watch["started_s"]
    return verdict.Totals(seconds, total.num_requests, total.num_failures, Counter(total.response_times))


def progress(environment):
    before = totals(environment)
    while True:
        gevent.sleep(environment.parsed_options.progress_s)
        now = totals(environment)
        users = environment.runner.user_count
        print(f"{now.seconds:6.0f} s, {users} users: {now.since(before).describe()}", flush=True)
        before = now


@events.test_stop.add_listener
def stop(**_):
    watch["stopped_s"] = time.perf_counter()
    if "progress" in watch:
        watch["progress"].kill(block=False)


@events.quitting.add_listener
def judge(environment, **_):
    if isinstance(environment.runner, WorkerRunner):
        return
    counted = totals(environment) if "started_s" in watch else verdict.NOTHING
    wrong = verdict.judge(counted, environment.parsed_options)
    wrong += [f"the users must not fail, got {one['msg']}" for one in environment.runner.exceptions.values()]
    environment.process_exit_code = int(bool(wrong))
    watch["sentence"] = verdict.sentence(counted, wrong)


@events.quit.add_listener
def tell(**_):
    """After Locust's own tables, so that it is the last line."""
    if "sentence" in watch:
        print(watch["sentence"], flush=True)
