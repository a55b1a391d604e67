"""Entry points: thin mains that parse arguments and call the library."""

from dr_keras.commands import common as common  # First: it makes the start of TensorFlow quiet.
