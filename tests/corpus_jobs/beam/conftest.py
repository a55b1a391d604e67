"""Skips where Beam is absent; a rater and a corpus."""

import importlib.util

import pytest

collect_ignore = []
if importlib.util.find_spec("apache_beam") is None:
    collect_ignore = ["test_beam_transforms.py", "test_beam_files.py", "test_beam_example.py"]


@pytest.fixture(scope="session")
def letters(tmp_path_factory):
    """An exported rater that likes late letters, and a corpus for it as records and as a file."""
    import shard_corpora as corpora

    folder = tmp_path_factory.mktemp("letters")
    rows = corpora.letter_rows(600)
    corpora.write_jsonl(folder / "c.jsonl", rows)
    return corpora.export_letters(folder / "export"), rows, str(folder / "c.jsonl")
