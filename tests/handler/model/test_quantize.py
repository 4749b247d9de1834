import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from handler.errors import ContractViolation
from handler.model.contract import ImageInput, MaskOutput
from handler.model.quantize import (
    dequantize,
    dequantize_masks,
    quantize,
    quantize_image,
    recover_naive_cast,
)

INT8 = ImageInput(dtype="int8", scale=1, zero_point=-128, mean=None, padded=False)
INT8_CAST = ImageInput(dtype="int8", scale=1, zero_point=0, mean=(123.7, 116.8, 103.9), padded=True)
CODES = hnp.arrays(np.int8, hnp.array_shapes(max_dims=4, max_side=8))
SCALES = st.floats(1e-4, 1e3)


@given(CODES, SCALES, st.integers(-128, 127))
def test_quantize_undoes_dequantize(codes, scale, zero_point):
    assert np.array_equal(quantize(dequantize(codes, scale, zero_point), scale, zero_point), codes)


@given(hnp.arrays(np.float64, 20, elements=st.floats(-1e6, 1e6)), SCALES, st.integers(-128, 127))
def test_quantization_is_off_by_half_a_step_or_saturates(real, scale, zero_point):
    codes = quantize(real, scale, zero_point)
    exact = real / scale + zero_point
    assert (np.abs(codes - np.clip(exact, -128, 127)) <= 0.5).all()


def test_quantize_rounds_half_to_even():
    assert quantize(np.array([0.5, 1.5, 2.5, -0.5]), 1, 0).tolist() == [0, 2, 2, 0]


def test_int8_is_lossless():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    codes = quantize_image(image, INT8)
    assert codes.dtype == np.int8
    assert np.array_equal(codes.astype(int), image.astype(int) - 128)
    assert np.array_equal(dequantize(codes, INT8.scale, INT8.zero_point), image)


def test_an_int8_cast_image_saturates_instead_of_wrapping():
    image = np.array([[[0, 0, 0], [255, 255, 255], [124, 117, 104]]], np.uint8)
    codes = quantize_image(image, INT8_CAST)
    assert codes.tolist() == [[[-124, -117, -104], [127, 127, 127], [0, 0, 0]]]


def test_an_int8_table_equals_the_formula():
    spec = ImageInput(dtype="int8", scale=2, zero_point=5, mean=(10.0, 20.0, 30.0), padded=True)
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    assert np.array_equal(quantize_image(image, spec), quantize(image - np.array(spec.mean), 2, 5))


def test_float_and_uint8_images():
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    floats = quantize_image(image, ImageInput(dtype="float32", mean=(1.0, 2.0, 3.0), padded=True))
    assert floats.dtype == np.float32
    assert np.array_equal(floats, image - np.array([1, 2, 3], np.float32))
    assert quantize_image(image, ImageInput(dtype="uint8", padded=False)) is image


def test_naive_casts_are_recovered_from_both_ways_they_break():
    probability = np.array([0.0, 0.25, 0.49, 0.6, 0.9, 1.0])
    wrapped = (probability * 255).astype(int).astype(np.uint8).view(np.int8)
    saturated = np.minimum((probability * 255).astype(int), 127).astype(np.int8)
    assert np.abs(recover_naive_cast(wrapped) - probability).max() < 1 / 255
    assert recover_naive_cast(saturated).tolist()[3:] == [0.75] * 3
    assert np.abs(recover_naive_cast(saturated) - probability)[:3].max() < 1 / 255


def test_masks_follow_the_contract():
    codes = np.array([-1, 0, 64, 127], np.int8)
    int8 = MaskOutput(dtype="int8", scale=1 / 127, per_class=False)
    int8_cast = MaskOutput(dtype="int8", scale=1 / 255, per_class=True, naive_cast=True)
    floats = MaskOutput(dtype="float32", per_class=True)
    np.testing.assert_allclose(dequantize_masks(codes, int8), codes / 127, rtol=1e-6)
    np.testing.assert_allclose(dequantize_masks(codes, int8_cast), [1, 0, 64 / 255, 0.75], rtol=1e-6)
    assert np.array_equal(dequantize_masks(np.array([0.5], np.float32), floats), np.array([0.5], np.float32))
    with pytest.raises(ContractViolation, match="mrcnn_mask must be finite"):
        dequantize_masks(np.array([np.nan], np.float32), floats)
