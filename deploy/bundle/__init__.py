"""The function as a small folder of source, from which a cloud builds it without two gigabytes of TensorFlow.

Imports nothing else of deploy.

========= ====================================================================================
messages  the protobuf modules that the function imports, from the installed packages
pins      the packages to install beside them, with their versions
__main__  the folder: ``make bundle``
========= ====================================================================================
"""
