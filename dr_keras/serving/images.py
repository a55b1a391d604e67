"""A rater of images, uint8 in 0 to 255 or floats in 0 to 1, any number of them: what is exported,
and how it is loaded. Its signatures:

    serving_default     image uint8 [B, H, W, C]              -> score, percentile
    serve_float_images  image float32 [B, H, W, C], 0 to 1    -> score, percentile
    serve_tf_examples   examples string [B]: tf.train.Example -> score, percentile
    keep_probability    image uint8, discard_fraction float64 [], batch_size int32 []
                                                              -> score, percentile, keep_probability

A rater that reads the label, or whose reference model's loss does, takes `label` int32 [B] after
the image everywhere. Floats are brought
to the type that the rater was meta-trained with: of a rater of uint8, to the nearest of its 256
values, beyond 0 and 1 to these. The `image` of a tf.train.Example is a PNG, JPEG, GIF or BMP file
in a bytes_list.
"""

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.examples import ExampleSet
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.models.rater_scores import ReferenceLoss
from dr_keras.serving.examples import FEATURE, STATE, TYPE, ExampleKind, LoadedExampleRater
from dr_keras.serving.loading import LoadedRater
from dr_keras.serving.signatures import References, Signature
from dr_keras.system import schema

IMAGE = "image"


class ImageKind(ExampleKind):
    """A rater of images; arguments and errors as for `ExampleKind`."""

    kind = "images"

    def __init__(
        self, rater: keras.Model, examples: ExampleSet, reference: ReferenceLoss | None = None
    ):
        super().__init__(rater, examples, reference)
        found = self.inputs.get(IMAGE)
        if found is None or found.shape.rank != 4:
            raise ConfigurationError(
                f"The rater '{rater.name}' reads {list(self.inputs)}: a rater of images reads"
                " 'image' [B, H, W, C]. Export others with EXPORTER = @export_examples."
            )
        self._stored = found.dtype  # of the images that it was meta-trained with
        self.others = {name: spec for name, spec in self.inputs.items() if name != IMAGE}
        self.inputs = {IMAGE: self.image_spec(tf.uint8), **self.others}

    def facts(self) -> dict:
        return {**super().facts(), "image_dtype": self._stored.name}

    def image_spec(self, dtype) -> tf.TensorSpec:
        return tf.TensorSpec(self.inputs[IMAGE].shape, dtype, IMAGE)

    def _prepared(self, features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        # Not tf.image.convert_image_dtype: it cuts floats off instead of rounding them.
        image = features[IMAGE]
        if image.dtype == tf.uint8 and self._stored != tf.uint8:
            image = tf.cast(image, self._stored) / 255
        elif image.dtype != tf.uint8 and self._stored == tf.uint8:
            image = tf.cast(tf.round(tf.clip_by_value(image, 0.0, 1.0) * 255), tf.uint8)
        return {**features, IMAGE: image}

    def _stored_as(self, name: str) -> tf.io.FixedLenFeature:
        is_image = name == IMAGE
        return tf.io.FixedLenFeature([], tf.string) if is_image else super()._stored_as(name)

    def _read(self, name: str, stored: tf.Tensor) -> tf.Tensor:
        if name != IMAGE:
            return super()._read(name, stored)
        shape = self.inputs[IMAGE].shape[1:]

        def decode(file):
            image = tf.io.decode_image(file, channels=shape[2], expand_animations=False)
            return tf.ensure_shape(image, shape)

        form = tf.TensorSpec(shape, tf.uint8)
        return tf.map_fn(decode, stored, fn_output_signature=form)


@ImageKind.signature("serve_float_images")
def _serve_float_images(rater: ImageKind, served: Signature, references: References) -> Signature:
    floats = [rater.image_spec(tf.float32), *rater.others.values()]
    pictures = np.zeros([2, *rater.inputs[IMAGE].shape[1:]], np.float32)
    warmup = {**(served.warmup or {}), IMAGE: pictures}
    return Signature(served.function, floats, warmup)


class LoadedImageRater(LoadedExampleRater):
    """A `LoadedExampleRater` of images: uint8 in 0 to 255, or floats in 0 to 1."""

    needed = (*LoadedRater.needed, "serve_float_images")
    facts = {
        "inputs": schema.record({IMAGE: FEATURE}, others=FEATURE),
        "image_dtype": TYPE,
        "features": STATE,
    }

    def _check_values(self, name: str, dtype: tf.DType, values: np.ndarray | None) -> None:
        if name != IMAGE:
            super()._check_values(name, dtype, values)
        elif not dtype.is_floating and dtype != tf.uint8:
            raise DataError(
                f"The images are {dtype.name}; give uint8 in 0 to 255 or floats in 0 to 1."
            )
        elif dtype.is_floating and values is not None and values.size:
            if not (values.min() >= 0 and values.max() <= 1):
                raise DataError(
                    f"The images are floats from {values.min():g} to {values.max():g}; floats must"
                    " be in 0 to 1. Divide by 255, or give uint8."
                )

    def _cast(self, name: str, value: tf.Tensor) -> tf.Tensor:
        if name == IMAGE:
            return value if value.dtype == tf.uint8 else tf.cast(value, tf.float32)
        return super()._cast(name, value)

    def _score_features(self, features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        whole = features[IMAGE].dtype == tf.uint8
        return self.signatures["serving_default" if whole else "serve_float_images"](**features)
