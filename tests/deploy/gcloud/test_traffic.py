"""Canaries of the function, their growth and end, and the way back: who has how much of the traffic."""

from tests.deploy.gcloud.conftest import calls

CANARY = """
run services update segment {project} {region} --tag=canary --no-traffic
    --update-env-vars=MODEL_VERSION_LABEL=canary --update-labels=segment-deployed=canary --quiet
run services update-traffic segment {project} {region} --to-tags=canary=25 --quiet
"""


def test_a_canary_its_growth_and_its_end(served, bundle):
    served.done("function", "--source", str(bundle))
    assert served.done("function", "canary", "--percent=25") == calls(CANARY)
    assert served.state["run"]["segment"]["env"]["MODEL_VERSION_LABEL"] == "canary"
    assert served.serving() == [["segment-00001", 75, ""], ["segment-00002", 25, "canary"]]
    served.done("function", "canary", "--percent=50")
    assert served.serving() == [["segment-00001", 50, ""], ["segment-00002", 50, "canary"]]
    served.done("function", "canary", "--percent=0")
    assert served.serving() == [["segment-00001", 100, ""]]
    assert served.done("function", "canary", "--percent=0") == []


def test_a_canary_needs_a_function(served):
    finished = served.run("function", "canary")
    assert finished.returncode == 2
    assert "--name must be a service of a-project in europe-west4, got 'segment'; deploy it first" in finished.stderr


def test_a_deployment_after_a_canary_takes_the_traffic_and_ends_it(served, bundle):
    served.done("function", "--source", str(bundle))
    served.done("function", "canary")
    made = served.done("function", "--source", str(bundle))
    assert [call[:3] for call in made] == [["run", "deploy", "segment"], *[["run", "services", "update-traffic"]] * 2]
    assert served.serving() == [["segment-00003", 100, ""]]
    assert served.state["run"]["segment"]["env"]["MODEL_VERSION_LABEL"] == "stable"
    assert served.done("function", "--source", str(bundle)) == []


ROLLBACK = """
run services update-traffic segment {project} {region} --to-revisions=segment-00001=100 --remove-tags=canary --quiet
"""


def test_rolling_back(served, bundle):
    served.done("function", "--source", str(bundle))
    finished = served.run("function", "rollback")
    assert finished.returncode == 2
    assert "segment must have a deployment before 'segment-00001' to roll back to, got none" in finished.stderr
    served.change(fails=True)
    served.run("function", "--source", str(bundle), "--max=4")
    served.done("function", "canary")
    served.done("function", "--source", str(bundle), "--max=5")
    served.done("function", "canary")
    made = served.done("function", "rollback")  # past a canary, and past what never became ready
    assert made == calls(ROLLBACK)
    finished = served.run("function", "canary")
    assert finished.returncode == 2  # it would be a canary of what was rolled back
    assert "segment must serve its latest revision before a canary of it, got 'segment-00001'" in finished.stderr
    served.done("function", "rollback", "--revision=segment-00004")
    assert served.serving() == [["segment-00004", 100, ""]]
