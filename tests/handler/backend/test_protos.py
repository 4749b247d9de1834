import subprocess
import sys
import textwrap

import pytest


def run(code):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False, timeout=240
    )


def test_the_message_types_leave_tensorflow_alone():
    done = run("""
        import sys
        from handler.backend import protos
        assert not [name for name in sys.modules if name.split(".")[0] == "tensorflow"]
        protos.PredictRequest().inputs["x"].dtype = protos.DT_INT8
    """)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "order",
    [
        "from handler.backend import protos; import tensorflow as tf",
        pytest.param("import tensorflow as tf; from handler.backend import protos", marks=pytest.mark.campaign),
    ],
)
def test_they_live_beside_tensorflow_in_both_orders(order):
    done = run(f"""
        {order}
        proto = tf.make_tensor_proto([1, -2], dtype=tf.int8)
        assert protos.TensorProto.FromString(proto.SerializeToString()).dtype == protos.DT_INT8
        assert tf.make_ndarray(protos.TensorProto.FromString(proto.SerializeToString())).tolist() == [1, -2]
    """)
    assert done.returncode == 0, done.stderr
