"""The project on one machine: the commands behind ``make``. May import all of deploy.

=============  ===============================================================================
demo           the whole journey on one photograph (``make demo``)
serve          function and model until Ctrl-C (``make serve``)
stack          the two programs: start them, wait until they answer, ask them
models         what can be asked for by ``--model``: the bundled shapes, people
exports        a model as SavedModels, exported again if out of date
photo          the photograph that is sent
=======
traffic        bytes and time of a Predict call by kind of export
=============  ===============================================================================
"""
