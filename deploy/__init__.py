"""Everything around the function. A package may import handler, and those below it in this list.

local         the commands behind ``make``: demo and serve
bundle        the function's source without TensorFlow; like container, gcloud, kubernetes and capacity, which do not
              import each other
models        the bundled model: training, weights, evaluation, export; and a model of people
export        any model -> SavedModels with int8 inputs and outputs, and a report on them
model_server  the stand-in for TensorFlow Serving
tools         what the commands share
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow reads it once, and each warning is a screen long
