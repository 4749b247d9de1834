"""The function as a small folder of source: what a cloud builds from, without the two gigabytes of TensorFlow.

========= ====================================================================================
messages  the protobuf modules that the function imports, out of the installed packages
pins      what has to be installed beside them, each package with its version
__main__  the folder: ``make bundle``
========= ====================================================================================
"""
