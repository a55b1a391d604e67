"""The signatures of a rater of images, uint8 in 0 to 255 or floats in 0 to 1, any number of them.

    serving_default     image uint8 [B, H, W, C]              -> score, percentile
    serve_float_images  image float32 [B, H, W, C], 0 to 1    -> score, percentile
    serve_tf_examples   examples string [B]: tf.train.Example -> score, percentile
    keep_probability    image uint8, discard_fraction float64 [], batch_size int32 []
                                                              -> score, percentile, keep_probability

A rater that reads the label takes `label` int32 [B] after the image everywhere. Floats are brought
to the type that the rater was meta-trained with: of a rater of uint8, to the nearest of its 256
values, beyond 0 and 1 to these. The `image` of a tf.train.Example is a PNG, JPEG, GIF or BMP file
in a bytes_list.
"""

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.examples import ExampleSet
from dr_keras.errors import ConfigurationError
from dr_keras.serving.artefact import Endpoint, References
from dr_keras.serving.example_signatures import ExampleKind
from dr_keras.serving.signatures import outputs

FEATURE = "image"


class ImageKind(ExampleKind):
    """A rater of images; arguments and errors as for `ExampleKind`."""

    kind = "images"

    def __init__(self, rater: keras.Model, examples: ExampleSet):
        super().__init__(rater, examples)
        found = self.inputs.get(FEATURE)
        if found is None or found.shape.rank != 4:
            raise ConfigurationError(
                f"The rater '{rater.name}' reads {list(self.inputs)}: a rater of images reads"
                " 'image' [B, H, W, C]. Export others with EXPORTER = @export_examples."
            )
        self._stored = found.dtype  # of the images that it was meta-trained with
        self.inputs = {FEATURE: self._image_spec(tf.uint8), **_without_image(self.inputs)}

    def facts(self) -> dict:
        return {**super().facts(), "image_dtype": self._stored.name}

    def endpoints(self, references: References) -> dict[str, Endpoint]:
        names = list(self.inputs)

        def serve_float_images(*values):
            return outputs(self._score(dict(zip(names, values))), references.units)

        floats = [self._image_spec(tf.float32), *_without_image(self.inputs).values()]
        return {
            **super().endpoints(references),
            "serve_float_images": Endpoint(serve_float_images, floats),
        }

    def warmup_requests(self) -> list[tuple[str, dict[str, np.ndarray]]]:
        requests = super().warmup_requests()
        rows = requests[0][1]
        floats = {**rows, FEATURE: rows[FEATURE].astype(np.float32)}
        return [*requests, ("serve_float_images", floats)]

    def _image_spec(self, dtype) -> tf.TensorSpec:
        return tf.TensorSpec(self.inputs[FEATURE].shape, dtype, FEATURE)

    def _score(self, features: dict[str, tf.Tensor]) -> tf.Tensor:
        # Not tf.image.convert_image_dtype: it cuts floats off instead of rounding them.
        image = features[FEATURE]
        if image.dtype == tf.uint8 and self._stored != tf.uint8:
            image = tf.cast(image, self._stored) / 255
        elif image.dtype != tf.uint8 and self._stored == tf.uint8:
            image = tf.cast(tf.round(tf.clip_by_value(image, 0.0, 1.0) * 255), tf.uint8)
        return super()._score({**features, FEATURE: image})

    def _parse(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        others = {
            name: tf.io.FixedLenFeature(spec.shape[1:], tf.int64)
            for name, spec in _without_image(self.inputs).items()
        }
        parsed = tf.io.parse_example(
            examples, {FEATURE: tf.io.FixedLenFeature([], tf.string), **others}
        )
        shape = self.inputs[FEATURE].shape[1:]

        def decode(file):
            image = tf.io.decode_image(file, channels=shape[2], expand_animations=False)
            return tf.ensure_shape(image, shape)

        form = tf.TensorSpec(shape, tf.uint8)
        images = tf.map_fn(decode, parsed[FEATURE], fn_output_signature=form)
        rest = {
            name: tf.cast(parsed[name], spec.dtype)
            for name, spec in _without_image(self.inputs).items()
        }
        return {FEATURE: images, **rest}


def _without_image(inputs: dict) -> dict:
    return {name: spec for name, spec in inputs.items() if name != FEATURE}
