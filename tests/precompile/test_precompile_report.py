"""Words of the compiler, tables, advice, and files of lines."""

import json
import subprocess
import sys
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
import pytest
import tiny_quickstart

from dr_keras.commands import precompile
from dr_keras.config import configuration
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.meta import estimators
from dr_keras.precompile import report, tpu
import gin

REFUSAL = (
    "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. "
    "Used 48.31G of 15.75G hbm. Exceeded hbm capacity by 32.56G.\n\nTotal hbm usage >= 48.82G:\n"
)
TINY = [
    "--gin_file=experiments/quickstart.gin",
    *(f"--gin_param={binding}" for binding in tiny_quickstart.ONE_UPDATE),
]
WITHOUT_AOT = "jax[tpu] is not installed: ./tools/test --aot installs it and runs this"
FACTS = {
    "program": "meta_step",
    "config": "c0ffee",
    "features": {},
    "population": 8,
    "arguments": {"member": 3 << 30, "outer_adam": 1 << 30, "batches": 5},
    "estimated_temp_bytes": 2 << 30,
    "flops_by_formula": 2.5e12,
}


def compiled(**changes):
    sizes = dict(argument_bytes=5 << 30, output_bytes=4 << 30, temp_bytes=3 << 30)
    return tpu.Compiled(True, **(sizes | dict(alias_bytes=1 << 30, program_bytes=0) | changes))


def test_a_refusal_is_read():
    found = tpu.refused(REFUSAL)
    assert not found.fits
    assert found.needs_bytes == int(48.31 * 2**30) and found.has_bytes == int(15.75 * 2**30)
    assert found.reason == "needs 48.31 GiB of 15.75 GiB"
    assert found.peak_bytes == found.needs_bytes
    assert tpu.refused(REFUSAL.replace("15.75G", "512.00M")).has_bytes == 512 << 20


def test_a_refusal_for_temporaries_alone_is_read():
    found = tpu.refused(
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO"
        " temporaries (782.31G) exceeds available HBM (95.74G)."
    )
    assert found.reason == "needs 782.31 GiB of 95.74 GiB"


def test_a_refusal_without_figures_keeps_its_words():
    found = tpu.refused("RESOURCE_EXHAUSTED: something else")
    assert not found.fits and found.peak_bytes is None
    assert found.reason == "RESOURCE_EXHAUSTED: something else"


def test_another_refusal_is_an_error():
    with pytest.raises(ConfigurationError, match="refuses the program: UNIMPLEMENTED: a thing"):
        tpu.refused("UNIMPLEMENTED: a\n thing")


@given(st.text())
def test_any_words_end_as_a_result_or_an_error(words):
    try:
        assert not tpu.refused(words).fits
    except ConfigurationError as error:
        assert "refuses the program" in str(error)


def test_peak_counts_aliased_bytes_once():
    assert compiled().peak_bytes == 11 << 30


def test_members_on_a_chip():
    assert [report.members_per_chip(8, chips) for chips in (1, 4, 8, 16)] == [8, 2, 1, 1]


def topology(chips, usable):
    return SimpleNamespace(name="v5e:2x2", chips=chips, kind="TPU v5 lite", usable_bytes=usable)


def test_states_of_further_members_count_against_a_chip():
    line = report.line_of(FACTS, topology(4, 16 << 30), compiled())
    assert line["members_per_chip"] == 2 and line["other_members_bytes"] == 4 << 30
    assert line["fits"] and line["peak_bytes"] == 11 << 30
    line = report.line_of(FACTS, topology(2, 16 << 30), compiled())
    assert not line["fits"]
    assert line["reason"] == ("needs 23.00 GiB of 16.00 GiB with the states of 3 more members")
    json.dumps(line)


def test_payload_of_the_paper():
    # docs/distributed.md: 200 MB, of which the report is 8.4 kB
    assert report.all_reduced_bytes(50_000_000, 8, 2, 128) == 200_000_000 + 4 + 8 * 1056


@pytest.mark.parametrize("count, text", [(None, "-"), (0, "0.0 MiB"), (3 << 30, "3.00 GiB")])
def test_bytes_as_text(count, text):
    assert report.gib(count) == text


def test_the_table_has_a_row_a_program():
    line = report.line_of(FACTS, topology(4, 16 << 30), compiled())
    header, row = report.compiled_table([line]).splitlines()
    assert header.split()[:3] == ["program", "topology", "arguments"]
    assert row.split() == (
        [
            "meta_step",
            "v5e:2x2",
            "5.00",
            "GiB",
            "3.00",
            "GiB",
            "2.00",
            "GiB",
            "11.00",
            "GiB",
            "4.00",
            "GiB",
            "16.00",
            "GiB",
            "yes",
            "2.5",
        ]
    )


def advice(estimator, program="meta_step", rater_layers=(), **line):
    model = SimpleNamespace(name="language_model", layers=[], output="logits")
    trainer = SimpleNamespace(
        estimator=estimator, inner_batch_size=8, unroll_length=2, inner_model=model,
        population=SimpleNamespace(size=8),
    )  # fmt: skip
    rater = SimpleNamespace(name="text_rater", layers=list(rater_layers))
    setup = SimpleNamespace(trainer=trainer, rater=rater)
    return "\n".join(report.advice(setup, {"program": program, **line}))


def test_advice_names_what_is_not_used_yet():
    found = advice(estimators.NestedTape())
    assert "MetaTrainer.estimator = @MixedMode()" in found
    assert "language_model.recompute_blocks = True" in found
    assert "text_rater.recompute_blocks = True" in found
    assert "more chips" not in found
    blocks = [SimpleNamespace(name="blocks")]
    assert "text_rater" not in advice(estimators.NestedTape(), rater_layers=blocks)
    assert "text_rater" not in advice(estimators.NestedTape(), "train_step")
    found = advice(estimators.Recompute(micro_batches=4), members_per_chip=2)
    assert "Recompute.micro_batches = 8 or more" in found
    assert "more chips: each carries 2 members of 8" in found
    assert "micro_batches =" not in advice(estimators.Recompute(micro_batches=8))
    assert advice(estimators.NestedTape(), "train_step").startswith("LanguageModelTrainer.batch")


def test_lines_survive_a_write_that_was_cut_off(tmp_path):
    path = tmp_path / "deep" / "lines.jsonl"
    assert report.read_lines(path) == []
    report.append_line(path, {"a": 1})
    with path.open("a") as file:
        file.write('{"a": 2')
    assert report.read_lines(path) == [{"a": 1}]
    report.append_line(path, {"a": 3})
    assert report.read_lines(path) == [{"a": 1}, {"a": 3}]
    path.write_text('{"a": 1}\nnonsense\n{"a": 2}\n')
    with pytest.raises(DataError, match="line 2 is no JSON"):
        report.read_lines(path)


def test_kept_programs_come_back(tmp_path):
    report.keep(tmp_path, FACTS, b"program")
    ((line, path),) = report.read_kept(tmp_path)
    assert line == FACTS and path.read_bytes() == b"program"
    (tmp_path / "meta_step.json").unlink()
    with pytest.raises(DataError, match="no readable meta_step.json beside it"):
        report.read_kept(tmp_path)
    with pytest.raises(DataError, match="holds no .*--save_hlo"):
        report.read_kept(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["v5e", "v5e:2x", "v5e:2x2x2x2", "2x2"])
def test_a_topology_that_is_none(name):
    with pytest.raises(ConfigurationError, match="must be KIND:SHAPE, such as v5e:2x2"):
        tpu.Topology(name)


def test_without_the_extra_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "libtpu", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'dr_keras\[aot\]'"):
        tpu.Topology("v5e:2x2")


def test_the_command_checks_a_configuration(tmp_path, capsys):
    path = tmp_path / "lines.jsonl"
    for _ in range(2):  # the second finds its lines in the file
        assert precompile.main([*TINY, "--json", str(path)]) == 0
    out = capsys.readouterr().out
    assert "population 2, T = 1, nested_tape, inner batch 16, outer batch 32" in out
    lines = report.read_lines(path)
    assert [line["program"] for line in lines] == ["meta_step", "score", "train_step"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--from_hlo", "x"], "error: --from_hlo takes programs as they are"),
        (TINY + ["--program", "meta"], "error: There is no program 'meta'"),
        (TINY + ["--feature", "x"], "error: --feature x: it must be"),
        (TINY + ["--topology", "x"], "error: --topology x: it must be KIND:SHAPE"),
        ([], "error: The configuration binds no experiment.rater"),
    ],
)
def test_what_a_user_does_wrong_is_one_line(capsys, arguments, message):
    assert precompile.main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.long
def test_a_real_compile_for_a_tpu(tmp_path):
    pytest.importorskip("libtpu", reason=WITHOUT_AOT)
    path = tmp_path / "lines.jsonl"
    command = [sys.executable, "-m", "dr_keras", "precompile", *TINY, "--json", path]
    command += ["--topology", "v5e:2x2", "--save_hlo", tmp_path / "hlo"]
    subprocess.run(command, check=True)
    lines = {line["program"]: line for line in report.read_lines(path)}
    assert set(lines) == {"meta_step", "score", "train_step"}
    for line in lines.values():
        assert line["fits"] and line["chips"] == 4 and line["usable_bytes"] == int(15.75 * 2**30)
        assert line["argument_bytes"] >= sum(line["arguments"].values())
    assert lines["train_step"]["alias_bytes"] > 0  # Keras' variables are assigned in place
    again = [sys.executable, "-m", "dr_keras", "precompile", "--from_hlo", tmp_path / "hlo"]
    again += ["--topology", "v5e:2x2", "--json", tmp_path / "again.jsonl"]
    subprocess.run(again, check=True)
    for line in report.read_lines(tmp_path / "again.jsonl"):
        assert line["temp_bytes"] == lines[line["program"]]["temp_bytes"]


@pytest.mark.long
def test_a_topology_that_the_compiler_does_not_know():
    pytest.importorskip("libtpu", reason=WITHOUT_AOT)
    with pytest.raises(ConfigurationError, match="--topology v99:2x2: the TPU compiler knows no"):
        tpu.Topology("v99:2x2")


def test_names_of_the_packaged_study_make_the_models_that_they_say():
    expected = {"50m": (512, 10, 8), "150m": (768, 18, 12), "400m": (1280, 18, 10)}
    found = {}
    for size in expected:
        configuration.parse(
            ["experiments/paper_c4.gin", f"models/language_model_{size}.gin"],
            ["VOCABULARY_FILE = 'none'"],
        )
        assert gin.query_parameter("%VOCABULARY_FILE") == "none"
        found[size] = tuple(
            gin.query_parameter(f"language_model.{name}")
            for name in ("width", "layer_count", "heads")
        )
        gin.clear_config()
    assert found == expected
