"""The bundled model: a compact Mask R-CNN trained on shapes that this package draws.

scenes     one scene: circles, squares, triangles on clutter, with exact masks
dataset    scenes in bulk, kept on disk, augmented
network    features, RPN, heads, and the inference model made of them
boxes      box arithmetic and ROI-align
targets    what each head should have answered
train      the training loop
evaluate   average precision on held-out scenes; coins of a real photograph (coins)
bundled    builder, weights and settings of the result
export     the exporter's command line with this model as its source
fidelity   what the int8 exports of it change (``make fidelity``)
"""
