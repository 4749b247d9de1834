"""From a float32 instance-segmentation model to a SavedModel with int8 inputs and outputs.

Knows no example model. May import handler, deploy.model_server and deploy.tools.

kinds      what can be exported, from what
graphs     a builder and its weights, or a SavedModel -> a callable graph
dialects   which inputs and outputs it has: Matterport's, Object Detection's, the Model Garden's, YOLO's
yolo       a YOLO's letterbox, heads and prototypes in the graph
labels     a file -> names by class id
source     the graph, its dialect, and what the graph does not say of itself
trial      the picture that a new export runs on
frame      Matterport's frame inside the graph: padding, window, meta, anchors
signatures float32, int8_cast and int8 signatures of a source
write      signatures -> the next version folder, whole or not at all (scratch: the folder it works in)
report     what each of them costs and saves: a page on one's own photographs
"""
