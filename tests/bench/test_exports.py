"""What exporting and serving models of real size takes: memory, time and size, beside the source served as it is."""

import numpy as np
import pytest

from deploy.export.report.compare import compare
from tests.bench import exports, resnets

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # pycocotools on NumPy 2
]
EXPORT_BYTES, EXPORT_CPU_S, TIMES_SOURCE = 4 << 30, 180, 1.2
START_SLACK_S = 3  # of processor time: seconds of importing vary by that much


@pytest.mark.parametrize("route", exports.ROUTES)
@pytest.mark.parametrize("kind", resnets.BLOCKS)
def test_an_export_takes_hardly_more_than_its_source(tmp_path, kind, route):
    measured = exports.measure(kind, route, tmp_path)
    print(exports.table(exports.HEADER, exports.rows(f"{kind}, {route}", measured), left=2))
    assert measured.export.peak_bytes <= EXPORT_BYTES
    assert measured.export.cpu_s <= EXPORT_CPU_S
    source, int8 = measured.source, measured.int8
    assert int8.size_bytes <= TIMES_SOURCE * source.size_bytes
    assert int8.ready.peak_bytes <= TIMES_SOURCE * source.ready.peak_bytes
    assert int8.answered.peak_bytes <= TIMES_SOURCE * source.answered.peak_bytes
    assert int8.ready.cpu_s <= TIMES_SOURCE * source.ready.cpu_s + START_SLACK_S
    same = compare(source.found, int8.found)
    assert same.reference_count == same.other_count > 0
    assert len(same.ious) >= 0.98 * same.reference_count  # a mask of noise may have a few pixels, all close to 0.5
    assert same.boxes.max() <= 1e-5
    assert same.scores.max() <= 1e-4
    assert np.mean(same.ious) >= 0.99  # masks of noise, of many pixels close to 0.5
