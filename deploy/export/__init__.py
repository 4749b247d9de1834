"""From a float32 instance-segmentation model to a SavedModel with int8 inputs and outputs.

Knows no example model. May import handler, deploy.model_server and deploy.tools.

kinds        what can be exported, from what
options      the command line
labels       a file -> names by class id
reading      how a model's tensors are meant, where its signature does not say
graphs       a builder and its weights, or a SavedModel -> a callable graph
tensorflow_1 a SavedModel of TensorFlow 1, with variables and tables that TensorFlow 2 can save
dialects     which inputs and outputs it has: Matterport's, Object Detection's, the Model Garden's, YOLO's
yolo         a YOLO's head and prototypes -> rows and masks
source       the graph, its dialect, and what the graph does not say of itself
trial        the pictures that a source and a new export run on
settle       what the answers for pictures show of a source, and what they leave in doubt
frame        the model's frame: padding, window, and Matterport's meta and anchors
pixels       pixels as a model takes them: grey, BGR, range, fixed size
answer       pixels -> the source's rows and masks, inside the graph
signatures   float32, int8_cast and int8 signatures of a source
write        signatures -> the next version folder, whole or not at all
scratch      the folder that a new version is written in
check        what an export would be, without writing it
report       what each of them costs and saves: a page on one's own photographs
"""
