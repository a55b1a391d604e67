"""Entry points: thin mains that parse arguments and call the library."""
