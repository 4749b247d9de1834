"""Detector and landmark network as one model: an image -> boxes, scores and masks of people.

Each person's square is cut out, turned upright and given to the landmark network. It returns a mask of the square, and
the probability that a person is in it, which is the score. The box that is returned is the one around this mask. Its
mask is the square's, turned back.

Source: MediaPipe, modules/pose_landmark/pose_landmark_by_roi_cpu.pbtxt and
tensors_to_pose_landmarks_and_segmentation.pbtxt.
"""

import tensorflow as tf

from deploy.models.people import detector
from deploy.models.people.squares import bounds, crops, in_boxes, to_image
from deploy.models.people.tflite import load

CROP_PX = 256
MASK_PX = 128
MIN_PRESENCE = 0.5
PERSON = 1.0
DETECTIONS, SCORES = "Identity", "Identity_1"  # of the detector
PRESENCE, MASK = "Identity_1", "Identity_2"  # of the landmark network: a probability, and logits


class People(tf.Module):
    """The model, with the signature of the Object Detection API."""

    def __init__(self, detector_file: bytes, landmarks_file: bytes) -> None:
        super().__init__()
        self.detect = load(detector_file)
        self.landmarks = load(landmarks_file)

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8, "input_tensor")], autograph=False)
    def serve(self, input_tensor: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the n people of an image uint8 [1, h, w, 3], RGB.

        detection_boxes float32 [1, n, 4], y1, x1, y2, x2 in 0..1; detection_classes, all 1; detection_scores;
        detection_masks float32 [1, n, MASK_PX, MASK_PX] of the box, 0..1; num_detections float32 [1].
        """
        image = tf.cast(input_tensor, tf.float32)
        size_hw = tf.shape(image)[1:3]
        squares = self.find(image)
        presence, masks = self.cut(crops(image, squares, CROP_PX, "NEAREST"))
        boxes = bounds(masks, squares, size_hw)
        there = (presence > MIN_PRESENCE) & tf.reduce_all(boxes[:, 2:] > boxes[:, :2], 1)
        order = tf.argsort(presence, direction="DESCENDING")
        order = tf.boolean_mask(order, tf.gather(there, order))
        scores, squares, masks, boxes = (tf.gather(one, order) for one in (presence, squares, masks, boxes))
        size = tf.cast(tf.tile(size_hw, [2]), tf.float32)
        return {
            "detection_boxes": (tf.gather(boxes, [1, 0, 3, 2], axis=1) / size)[None],
            "detection_classes": tf.fill(tf.shape(scores), PERSON)[None],
            "detection_scores": scores[None],
            "detection_masks": in_boxes(masks, squares, boxes, MASK_PX)[None],
            "num_detections": tf.cast(tf.shape(scores), tf.float32),
        }

    def find(self, image: tf.Tensor) -> tf.Tensor:
        """Return the squares [n, 4] around the people in an image float32 [1, h, w, 3], 0..255."""
        size_wh = tf.cast(tf.shape(image)[2:0:-1], tf.float32)
        whole = tf.concat([size_wh / 2, tf.reduce_max(size_wh, keepdims=True), [0.0]], 0)[None]
        found = self.detect(crops(image, whole, detector.SIDE_PX, "CONSTANT") / 127.5 - 1)
        points = detector.people(found[DETECTIONS][0], found[SCORES][0, :, 0])
        placed = tf.reshape(to_image(whole, tf.reshape(points, [1, -1, 2])), [-1, 4, 2])
        return detector.squares(placed)

    def cut(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return presence [n] and masks [n, 256, 256], both 0..1, of crops float32 [n, 256, 256, 3], 0..255."""
        count = tf.shape(images)[0]
        one_if_none = tf.cast(count == 0, tf.int32)  # on some processors, TensorFlow fails to convolve no image at all
        found = self.landmarks(tf.pad(images / 255, [[0, one_if_none], [0, 0], [0, 0], [0, 0]]))
        return found[PRESENCE][:count, 0], tf.sigmoid(found[MASK][:count, ..., 0])
