"""Everything around the function: the model, its export, the stand-in for the server and the commands."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow reads it once, and each warning is a screen long
