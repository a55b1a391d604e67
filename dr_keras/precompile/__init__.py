"""What a configuration asks of a chip, before there is one: shapes, bytes, TPU programs."""
