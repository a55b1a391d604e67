"""Small convolutional models of images: a classifier and a rater.

Images are uint8 in 0 to 255, or floats in 0 to 1 (as `tf.image.convert_image_dtype` has them);
the models are given either and scale uint8 themselves. Strided convolutions take the place of
pooling: the second derivative of max pooling costs XLA:CPU several times its first.
"""

from collections.abc import Sequence

import keras

from dr_keras.models import layers
from dr_keras.models.inner_state import score_of, state_inputs
import gin


@keras.saving.register_keras_serializable(package="dr_keras")
class UnitPixels(keras.layers.Layer):
    """Pixel values as floats in 0 to 1: whole numbers are divided by 255, floats stay."""

    def __init__(self, **arguments):
        super().__init__(autocast=False, **arguments)  # or whole numbers would arrive as floats

    def call(self, images):
        whole = "int" in keras.backend.standardize_dtype(images.dtype)
        images = keras.ops.cast(images, self.compute_dtype)
        return images / 255 if whole else images

    def compute_output_spec(self, images):
        return keras.KerasTensor(images.shape, self.compute_dtype)


def _convolutions(image, channels: Sequence[int], activation: str):
    hidden = UnitPixels(name="unit_pixels")(image)
    for number, count in enumerate(channels):
        hidden = keras.layers.Conv2D(
            count, 3, strides=2, padding="same", activation=activation, name=f"conv_{number}"
        )(hidden)
    return keras.layers.Flatten(name="flatten")(hidden)


@gin.configurable
def image_classifier(
    image_shape: Sequence[int] = gin.REQUIRED,
    classes: int = gin.REQUIRED,
    channels: Sequence[int] = (16, 32),
    dense: int = 0,
    dropout: float = 0.0,
    activation: str = "silu",
    image_dtype: str = "uint8",
) -> keras.Model:
    """A classifier of images: 3 x 3 convolutions of stride 2, a dense layer or none, logits.

    Args:
      image_shape: (height, width, channels).
      classes: C.
      channels: of each convolution.
      dense: width of a hidden layer before the logits; 0 for none.
      dropout: rate before the logits.
      activation: of all layers; a smooth one has a second derivative everywhere.
      image_dtype: of the data's images, "uint8" or "float32".

    Returns:
      A Keras model from {"image": [B, H, W, channels]} to logits [B, C], float32 (float64 under
      that policy).
    """
    image = keras.Input(tuple(image_shape), name="image", dtype=image_dtype)
    hidden = _convolutions(image, channels, activation)
    if dense:
        hidden = keras.layers.Dense(dense, activation=activation, name="dense")(hidden)
    if dropout:
        hidden = keras.layers.Dropout(dropout, name="dropout")(hidden)
    logits = keras.layers.Dense(classes, name="logits", dtype=layers.output_dtype())(hidden)
    return keras.Model({"image": image}, logits, name="image_classifier")


@gin.configurable
def image_rater(
    image_shape: Sequence[int] = gin.REQUIRED,
    classes: int | None = None,
    channels: Sequence[int] = (8, 16),
    dense: int = 32,
    activation: str = "silu",
    image_dtype: str = "uint8",
    features: Sequence[str] = (),
) -> keras.Model:
    """phi_eta(x): convolutions, a dense layer, one linear score.

    As for `text_rater`, the score's layer starts at zero: training begins with uniform weights.

    Args:
      image_shape: (height, width, channels).
      classes: None rates the image alone; the number of classes makes the rater read the label
        too, which it needs to see that a label is wrong.
      channels, dense, activation, image_dtype: as for `image_classifier`.
      features: what it reads of the inner model; see `dr_keras.models.inner_state`.

    Returns:
      A Keras model from {"image": [B, H, W, channels]}, "label" int32 [B] where `classes` is given,
      and [B] for each of `features`, to scores [B], float32 (float64 under that policy).

    Raises:
      ConfigurationError: there is no such feature.
    """
    image = keras.Input(tuple(image_shape), name="image", dtype=image_dtype)
    inputs = {"image": image}
    hidden = _convolutions(image, channels, activation)
    if classes:
        inputs["label"] = keras.Input((), name="label", dtype="int32")
        label = keras.ops.one_hot(inputs["label"], classes, dtype=hidden.dtype)
        # What an image should look like depends on its label: logits of a small classifier times
        # the label, beside both by themselves.
        guess = keras.layers.Dense(classes, name="guess")(hidden)
        hidden = keras.layers.Concatenate(name="image_and_label")([hidden, guess * label, label])
    hidden = keras.layers.Dense(dense, activation=activation, name="dense")(hidden)
    state = state_inputs("image_rater", features)
    return keras.Model({**inputs, **state}, score_of(hidden, state), name="image_rater")
