"""The pieces of one run put together."""
