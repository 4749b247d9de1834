"""Training runs: every stage, from scratch and on from weights."""

import numpy as np
import pytest

from deploy.models.shapes import bundled, dataset, network, train

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras on NumPy 2


@pytest.fixture(scope="module")
def scenes():
    return dataset.draw(0, 16)


@pytest.mark.campaign
def test_both_stages_then_on_from_there(scenes, tmp_path):
    stages = [stage._replace(steps=50, warmup=10) for stage in train.STAGES]
    history = []
    train.train(stages[:1], scenes, tmp_path, history)
    start = np.array(history[0][2:])
    first = network.join(network.parts())
    first.load_weights(tmp_path / bundled.WEIGHTS.name)
    train.train(stages[1:], scenes, tmp_path, train.read_curve(tmp_path / train.CURVE))
    rows = train.read_curve(tmp_path / train.CURVE)
    assert [row[0] for row in rows] == [50, 100]
    assert rows[1][1] > rows[0][1] > 0
    assert np.isfinite(rows).all()
    assert sum(rows[1][2:]) < start.sum()
    assert (tmp_path / "learning_curve.png").stat().st_size > 10_000
    second = network.join(network.parts())
    second.load_weights(tmp_path / bundled.WEIGHTS.name)
    changed = [bool((a != b).any()) for a, b in zip(first.get_weights(), second.get_weights(), strict=True)]
    assert sum(changed) > 0.9 * len(changed)
