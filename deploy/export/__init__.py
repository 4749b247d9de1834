"""From a float32 Mask R-CNN to a SavedModel with an int8 boundary.

source     a builder and its weights -> a callable graph and what it does not say of itself
frame      Matterport's frame inside the graph: padding, window, meta, anchors
signatures float32, article and boundary signatures of a source
write      signatures -> the next version folder, whole or not at all
"""
