"""A model for photographs of people: two networks of MediaPipe, which are downloaded, joined to one SavedModel.

wheel      the package on PyPI that holds the networks: download, hash, contents
tflite     a TensorFlow Lite file -> a TensorFlow function
detector   the detector's input and output: anchors, boxes, overlaps, the square around a person
squares    a rotated square in an image: points, crops, and masks in boxes
network    both networks as one model with the Object Detection API's signature
export     the exporter's command line with this model as its source
"""
