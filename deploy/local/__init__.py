"""The project on one machine: the commands behind ``make``, and the stand-in for TensorFlow Serving.

=============  ==========================================================================================
demo           the whole journey on one photograph (``make demo``)
serve          function and model until Ctrl-C (``make serve``)
stack          the two programs: start, wait until they answer, ask
exports        the bundled model as SavedModels, made when out of date
photo          the photograph that is sent
overlay        an answer drawn over its photograph
traffic        bytes and time of a Predict call by kind of export (tables: how they are printed)
processes      programs started, watched, stopped (signals: Ctrl-C, ``kill``, closed terminal)
model_server   the stand-in for TensorFlow Serving
=============  ==========================================================================================
"""
