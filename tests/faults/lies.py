"""A backend that lies: right answers, each changed in one place so that the contract does not hold."""

from tests.support.backend import Backend

HUGE_BYTES = 64 << 20


class Liar(Backend):
    """Answers as its ``lie`` changes the outputs; None: it is honest."""

    lie = None

    def predict(self, request, context):
        response = super().predict(request, context)
        if self.lie and "mrcnn_mask" in response.outputs:
            self.lie(response.outputs)
        return response


def wrong_type(outputs):
    outputs["mrcnn_mask"].dtype = outputs["mrcnn_detection"].dtype


def wrong_shape(outputs):
    outputs["mrcnn_detection"].tensor_shape.dim[2].size += 1


def wrong_rank(outputs):
    outputs["mrcnn_mask"].tensor_shape.dim.add(size=1)


def too_few_values(outputs):
    del outputs["mrcnn_mask"].int_val[-1]


def too_few_masks(outputs):
    masks = outputs["mrcnn_mask"]
    masks.tensor_shape.dim[1].size = 1
    del masks.int_val[16:]


def values_out_of_range(outputs):
    outputs["mrcnn_mask"].int_val[0] = 300


def not_a_number(outputs):
    outputs["mrcnn_detection"].float_val[0] = float("nan")


def half_a_class(outputs):
    outputs["mrcnn_detection"].float_val[4] = 1.5


def no_masks(outputs):
    del outputs["mrcnn_mask"]


def huge_shape(outputs):
    outputs["mrcnn_mask"].tensor_shape.dim[1].size = 1 << 40


def huge_message(outputs):
    outputs["mrcnn_mask"].tensor_content = bytes(HUGE_BYTES)


LIES = (
    *(wrong_type, wrong_shape, wrong_rank, too_few_values, too_few_masks, values_out_of_range),
    *(not_a_number, half_a_class, no_masks, huge_shape, huge_message),
)
