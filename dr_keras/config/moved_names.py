"""Names of gin that are called otherwise now: what a refusal says of them.

docs/versioning.md says how long a name stays here.
"""

# "configurable.argument", or "configurable", as it was -> as it is.
MOVED = {"MetaTrainer.temperature": "example_softmax.temperature"}


def moved(name: str) -> str:
    """A sentence that says what `name` is called now; empty where it has not moved."""
    return f" It is {MOVED[name]} now." if name in MOVED else ""
