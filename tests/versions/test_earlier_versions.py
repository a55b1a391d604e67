"""What earlier versions made is read by this one: docs/versioning.md says what is promised."""

import gzip
import json
from pathlib import Path
import sys
import zipfile

import numpy as np
import pytest

from dr_keras.config import configuration
from dr_keras.config.moved_names import MOVED, moved
from dr_keras.data.prepared import prepared_data
from dr_keras.errors import ConfigurationError
from dr_keras.serving.loading import load_rater
from dr_keras.studies.results import Results

HERE = Path(__file__).resolve().parent
VERSIONS = sorted(path.name for path in HERE.iterdir() if path.is_dir() and path.name[0].isdigit())
sys.path.insert(0, str(HERE.parents[1] / "tools"))


def kept(name):
    """(path) of all versions that kept such a file."""
    found = [HERE / version / name for version in VERSIONS if (HERE / version / name).exists()]
    return pytest.mark.parametrize("path", found, ids=lambda path: path.parent.name)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """A function that unpacks an archive of a version, once."""

    def unpack(path):
        folder = tmp_path_factory.mktemp(path.stem)
        zipfile.ZipFile(path).extractall(folder)
        return folder

    return unpack


@kept("rater.zip")
def test_raters_load_and_score_as_they_did(path, unpacked):
    rater = load_rater(unpacked(path) / "export")
    expected = json.loads((path.parent / "rater_scores.json").read_text(encoding="utf-8"))
    found = rater(expected["texts"])
    for name in ("score", "percentile"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)
    found = rater.keep_probability(expected["texts"], discard_fraction=0.5, batch_size=64)
    np.testing.assert_allclose(found["keep_probability"], expected["keep_probability"], atol=1e-4)


@kept("rater.zip")
def test_the_configuration_that_a_rater_carries_is_read(path, unpacked, tmp_path):
    """Each line is taken, or refused with the name that it has now."""
    text = json.loads((unpacked(path) / "export" / "1" / "rater.json").read_text())
    lines = text["training"]["gin_config"].splitlines()
    old = [line for line in lines if line.split(" = ")[0] in MOVED]
    for line in old:
        (tmp_path / "old.gin").write_text(f"{line}\n", encoding="utf-8")
        with pytest.raises(ConfigurationError, match=moved(line.split(" = ")[0])):
            configuration.parse(str(tmp_path / "old.gin"), complete=False)
    now = "\n".join(line for line in lines if line not in old)
    (tmp_path / "now.gin").write_text(f"{now}\n", encoding="utf-8")
    configuration.parse(str(tmp_path / "now.gin"))


@kept("results.json.gz")
def test_results_are_read(path, tmp_path):
    (tmp_path / "results.json").write_bytes(gzip.decompress(path.read_bytes()))
    results = Results.load(tmp_path / "results.json")
    assert {"unfiltered", "random", "rater"} <= set(results.sizes[0].arms)
    assert results.answer.text and results.rater.quality.auc > 0.8


@pytest.mark.long
@kept("results.json.gz")
def test_results_make_a_report(path, tmp_path):
    from dr_keras.report.page import write_report

    (tmp_path / "results.json").write_bytes(gzip.decompress(path.read_bytes()))
    results = Results.load(tmp_path / "results.json")
    write_report(results, tmp_path / "report.html")
    assert results.answer.text[:40] in (tmp_path / "report.html").read_text(encoding="utf-8")


@kept("prepared.zip")
def test_prepared_corpora_are_read(path, unpacked):
    folder = unpacked(path) / "prepared"
    parts = prepared_data(str(folder), verify=True)
    stored = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for name in ("train", "outer", "validation", "test"):
        assert len(getattr(parts, name)) == stored["parts"][name]["rows"] > 0
    tokens = np.asarray(parts.train.features["tokens"][0][:5], np.int32)
    assert bytes((tokens - 2).astype(np.uint8)) == b"Entry"


@kept("gin_names.json")
def test_names_of_gin_stay_or_say_where_they_went(path):
    import record_version  # of tools/

    names = record_version.gin_names()
    for name, arguments in json.loads(path.read_text(encoding="utf-8")).items():
        assert name in names or name in MOVED, name
        lost = set(arguments) - set(names.get(name, arguments))
        assert [one for one in lost if f"{name}.{one}" not in MOVED] == [], name


def test_what_has_moved_is_there():
    import record_version

    names = record_version.gin_names()
    for now in MOVED.values():
        name, _, argument = now.partition(".")
        assert argument in names[name] if argument else name in names
