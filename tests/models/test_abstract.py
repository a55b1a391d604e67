"""Every size that a gin file names can be built on a laptop, and has the parameters it says."""

import re
import resource

import pytest

from dr_keras.config import configuration, gin_files
from dr_keras.models.abstract import build_abstract
from dr_keras.models.language_model import language_model
from dr_keras.models.rater import text_rater

SIZED = [name for name in gin_files.packaged_gin_files() if re.search(r"_\d+m\.gin$", name)]


def test_there_are_sizes():
    assert {"models/rater_50m.gin", "models/language_model_400m.gin"} <= set(SIZED)


@pytest.mark.parametrize("name", SIZED)
def test_size_is_what_its_name_says(name):
    params = ["SEQUENCE_LENGTH = 2048", "VOCABULARY_SIZE = 32000"]
    configuration.parse(name, params, complete=False)
    build = text_rater if "rater" in name else language_model
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = build_abstract(build)
    millions = model.count_params() / 1e6
    assert millions == pytest.approx(int(re.search(r"_(\d+)m", name)[1]), rel=0.1)
    # 1B parameters in float32 would be 4 GB; kilobytes here.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


@pytest.mark.parametrize("study", ["c4", "c4_noclean", "pile"])
def test_paper_configurations_build_the_papers_models(study):
    params = ["VOCABULARY_FILE = 'absent.model'"]
    if study == "pile":
        params.append("PILE_FILES = 'absent.jsonl'")
    configuration.parse(f"experiments/paper_{study}.gin", params)
    rater, inner = build_abstract(text_rater), build_abstract(language_model)
    assert rater.count_params() / 1e6 == pytest.approx(50, rel=0.1)
    assert inner.count_params() / 1e6 == pytest.approx(400, rel=0.1)
    width = inner.get_layer("token_embedding").output_dim
    assert inner.output_shape == [(None, 2048, width), (32000, width)]
    assert rater.output_shape == (None,)
    assert rater.get_layer("blocks")._template().sequence_length == 2048


def test_abstract_and_real_model_agree():
    def build():
        return language_model(50, 16, width=12, layer_count=2, heads=3)

    assert build_abstract(build).count_params() == build().count_params()
