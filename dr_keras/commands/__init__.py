"""Entry points: thin mains that parse arguments and call the library."""

from dr_keras.commands import common as common  # First: it sets what TensorFlow reads.
