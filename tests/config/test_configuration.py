"""Strict parsing: what is refused, with which words, and what a run directory keeps."""

import logging
import sys

import hypothesis
import hypothesis.strategies as st
import pytest
import tensorflow as tf

from dr_keras.config import configuration, gin_files
from dr_keras.errors import ConfigurationError
import gin


@gin.configurable(module="test_configuration")
def sample_layer(width=1, depth=2, activation=None):
    return width, depth, activation


@gin.configurable(module="test_configuration", denylist=["secret"])
def sample_needs(size, secret=0):
    return size, secret


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


def refusal(gin_files=(), gin_params=(), **options):
    with pytest.raises(ConfigurationError) as caught:
        configuration.parse(gin_files, gin_params, **options)
    return str(caught.value)


def test_bindings_of_files_and_parameters_the_last_one_wins(tmp_path):
    first = write(tmp_path / "first.gin", "sample_layer.width = 3\nsample_layer.depth = 4\n")
    second = write(tmp_path / "second.gin", "sample_layer.depth = 5\n")
    configuration.parse([first, second], ["sample_layer.width = 7"])
    assert sample_layer() == (7, 5, None)
    assert gin.config_is_locked()


def test_parsing_again_forgets_the_earlier_bindings():
    configuration.parse((), "sample_layer.width = 3")
    configuration.parse((), "sample_layer.depth = 9")
    assert sample_layer() == (1, 9, None)


@pytest.mark.parametrize(
    "text, words",
    [
        ("sample_layr.width = 3", ["No configurable matching 'sample_layr'", "'sample_layer'?"]),
        ("sample_layer.widht = 3", ["a parameter named 'widht'", "Did you mean 'width'?"]),
        ("MetaTrainer.temperature = 2.0", ["It is example_softmax.temperature now."]),
        ("sample_layer.zzz = 3", ["'zzz'", "It has: width, depth, activation."]),
        ("sample_layer.width = @sampel_layer()", ["'@sampel_layer()'", "'sample_layer'?"]),
        ("sample_needs.secret = 3", ["denylisted kwarg 'secret'"]),
        ("sample_layer.width 3", ["not gin syntax", "sample_layer.width 3"]),
        ("sample_layer.width = tanh", ["'tanh' is not a value. Text is quoted"]),
        ("include 'no/such.gin'", ["there is no gin file 'no/such.gin' to include"]),
        ("import no_such_module", ["cannot import: No module named 'no_such_module'."]),
    ],
)
def test_refusals_name_file_and_line(tmp_path, text, words):
    path = write(tmp_path / "a.gin", f"# a comment\n\n{text}\n")
    message = refusal(path)
    assert message.startswith(f"{path} line 3: "), message
    for word in words:
        assert word in message


def test_open_bracket_is_refused(tmp_path):
    path = write(tmp_path / "a.gin", "sample_layer.width = [1,\n")
    message = refusal(path)
    assert path in message and "not gin syntax" in message


def test_an_error_in_an_included_file_names_that_file(tmp_path):
    write(tmp_path / "parts" / "b.gin", "\n\nsample_layer.hight = 3")
    path = write(tmp_path / "a.gin", "include 'parts/b.gin'")
    assert refusal(path).startswith(f"{tmp_path}/parts/b.gin line 3: ")


def test_refusals_name_the_parameter_of_the_command_line():
    message = refusal((), ["sample_layer.width = 1", "sample_layer.dept = 2"])
    assert message.startswith("--gin_param number 2 (sample_layer.dept = 2): ")
    assert "Did you mean 'depth'?" in message
    assert refusal((), ["sample_layer.width = 1 2"]).startswith("--gin_param number 1 line 1: ")


def test_a_gin_error_in_the_users_module_is_placed(tmp_path):
    write(tmp_path / "broken_user_module.py", "import no_such_dependency\n")
    message = refusal(write(tmp_path / "a.gin", "import broken_user_module"))
    assert "a.gin line 1: cannot import: No module named 'no_such_dependency'." in message


def test_a_missing_file_is_refused_with_the_nearest_packaged_name():
    wanted = gin_files.packaged_gin_files()[0]
    message = refusal(wanted.replace(".gin", "_.gin"))
    assert f"Did you mean {wanted!r}?" in message
    assert refusal("/no/such.gin") == "there is no gin file /no/such.gin."


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "a.gin").write_bytes(b"\xff\xfe\x00")
    assert "is not UTF-8" in refusal("a.gin")


def test_includes_in_a_circle_are_refused(tmp_path):
    first = write(tmp_path / "a.gin", "include 'b.gin'")
    second = write(tmp_path / "b.gin", "include 'a.gin'")
    assert f"in a circle: {first} -> {second} -> {first}." in refusal(first)


def test_a_file_included_twice_is_no_circle(tmp_path):
    write(tmp_path / "base.gin", "sample_layer.width = 4")
    write(tmp_path / "b.gin", "include 'base.gin'")
    configuration.parse(write(tmp_path / "a.gin", "include 'base.gin'\ninclude 'b.gin'"))
    assert sample_layer()[0] == 4


def test_required_values_and_macros_are_all_named_in_one_message(tmp_path):
    path = write(
        tmp_path / "a.gin",
        "STEPS = %gin.REQUIRED\nsample_layer.width = %STEPS\nsample_layer.depth = %DEPTH\n"
        "sample_needs.size = %gin.REQUIRED",
    )
    message = refusal(path, ["STEP = 3"])
    assert f"{path} line 1: STEPS must be given a value" in message
    assert f"{path} line 4: sample_needs.size must be given a value" in message
    assert f"{path} line 3: sample_layer.depth uses %DEPTH, which has no value." in message
    assert "--gin_param number 1: STEP is given a value, and nothing uses it." in message
    assert "Did you mean 'STEPS'?" in message
    configuration.parse(path, ["STEPS = 3", "DEPTH = 4", "sample_needs.size = 5"])
    assert sample_layer() == (3, 4, None)
    assert sample_needs() == (5, 0)


def test_macros_in_scopes_and_containers_count_as_used():
    value = "[%NAME, {'k': %ns/OTHER}]"
    configuration.parse(
        (), [f"wide/sample_layer.activation = {value}", "NAME = 'a'", "ns/OTHER = 2"]
    )
    with gin.config_scope("wide"):
        assert sample_layer()[2] == ["a", {"k": 2}]


def test_a_fragment_may_leave_macros_open(tmp_path):
    path = write(tmp_path / "a.gin", "sample_layer.width = %WIDTH")
    configuration.parse(path, complete=False)
    assert not gin.config_is_locked()
    assert "a parameter named 'widt'" in refusal((), "sample_layer.widt = 1", complete=False)


def test_includes_prefer_the_files_own_folder_and_find_packaged_ones(tmp_path, monkeypatch):
    name = gin_files.packaged_gin_files()[0]
    own = write(tmp_path / "own" / "a.gin", "include 'part.gin'")
    write(tmp_path / "own" / "part.gin", "sample_layer.width = 11")
    write(tmp_path / "part.gin", "sample_layer.width = 22")
    configuration.parse(own)
    assert sample_layer()[0] == 11
    configuration.parse(write(tmp_path / "b.gin", f"include '{name}'"), complete=False)


def test_an_earlier_files_folder_does_not_stay_on_the_search_path(tmp_path):
    configuration.parse(write(tmp_path / "one" / "a.gin", "sample_layer.width = 1"))
    write(tmp_path / "one" / "part.gin", "")
    message = refusal(write(tmp_path / "two" / "a.gin", "include 'part.gin'"))
    assert "there is no gin file 'part.gin' to include" in message


def test_a_module_beside_the_file_is_imported(tmp_path):
    write(
        tmp_path / "mine" / "user_module_beside.py",
        "import gin\n@gin.configurable\ndef user_function(a=1):\n    return a\n",
    )
    path = write(tmp_path / "mine" / "a.gin", "import user_module_beside\nuser_function.a = 5")
    configuration.parse(path)
    assert sys.modules["user_module_beside"].user_function() == 5
    assert "import user_module_beside" in configuration.parsed_config()


def test_remote_paths_are_read_through_tensorflow():
    with tf.io.gfile.GFile("ram://folder/a.gin", "w") as file:
        file.write("include 'b.gin'\n")
    with tf.io.gfile.GFile("ram://folder/b.gin", "w") as file:
        file.write("sample_layer.width = 8\n")
    configuration.parse("ram://folder/a.gin")
    assert sample_layer()[0] == 8
    configuration.check_same_config("ram://run")
    assert "there is no gin file ram://folder/c.gin" in refusal("ram://folder/c.gin")
    configuration.parse((), "sample_layer.width = 9")
    with pytest.raises(ConfigurationError, match=r"width: there 8, now 9"):
        configuration.check_same_config("ram://run")


def test_parsing_prints_nothing(tmp_path, caplog, capfd):
    name = gin_files.packaged_gin_files()[0]
    with caplog.at_level(logging.INFO):
        configuration.parse(write(tmp_path / "b.gin", f"include '{name}'"), complete=False)
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(st.text(max_size=60))
def test_no_text_whatever_escapes_as_another_error(text):
    try:
        configuration.parse((), [text])
    except ConfigurationError as error:
        assert str(error)


# ---------------------------------------------------------------------------- the run's record


def test_a_run_is_recorded_then_compared(tmp_path):
    run = tmp_path / "run"
    depth = "sample_layer.depth = %STEPS"
    configuration.parse((), ["sample_layer.width = 0.001", "STEPS = 5", depth])
    configuration.check_same_config(run)
    recorded = (run / configuration.PARSED_CONFIG).read_text()
    assert recorded.splitlines() == [
        "STEPS = 5",
        "sample_layer.depth = %STEPS",
        "sample_layer.width = 0.001",
    ]
    configuration.parse((), ["STEPS = 5", depth, "sample_layer.width = 1e-3"])
    configuration.check_same_config(run)
    configuration.parse((), ["STEPS = 6", depth, "sample_layer.activation = 'x'"])
    with pytest.raises(ConfigurationError) as caught:
        configuration.check_same_config(run)
    assert str(caught.value).splitlines() == [
        f"{run} holds a run with another configuration:",
        "  STEPS: there 5, now 6",
        "  sample_layer.activation: there not set, now 'x'",
        "  sample_layer.width: there 0.001, now not set",
        "To resume that run give it its own configuration (it is in its parsed_config.gin); to "
        "start another, name a new base_dir.",
    ]
    assert (run / configuration.PARSED_CONFIG).read_text() == recorded


def test_bindings_that_may_differ_are_recorded_anew(tmp_path):
    configuration.check_same_config(tmp_path, "STEPS = 5\nf.a = 1\n")
    configuration.check_same_config(tmp_path, "STEPS = 9\nf.a = 1\n", may_differ=["STEPS"])
    assert (tmp_path / configuration.PARSED_CONFIG).read_text() == "STEPS = 9\nf.a = 1\n"
    with pytest.raises(ConfigurationError, match="f.a: there 1, now 2"):
        configuration.check_same_config(tmp_path, "STEPS = 9\nf.a = 2\n", may_differ=["STEPS"])


def test_many_and_long_differences_are_cut(tmp_path):
    text = "".join(f"f.a{i:02} = '{'x' * 200}'\n" for i in range(20))
    configuration.check_same_config(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        configuration.check_same_config(tmp_path, "")
    lines = str(caught.value).splitlines()
    assert len(lines) == 15 and lines[13] == "  and 8 more"
    assert max(map(len, lines[1:13])) < 130


def test_a_recorded_configuration_can_be_parsed_again(tmp_path):
    value = {"names": ["a" * 70, "b" * 70], "nested": {"x": (1, 2.5, None)}}
    configuration.parse((), [f"sample_layer.activation = {value!r}"])
    configuration.check_same_config(tmp_path)
    configuration.parse(str(tmp_path / configuration.PARSED_CONFIG))
    assert sample_layer()[2] == value
    configuration.check_same_config(tmp_path)


def test_the_operative_configuration_holds_defaults(tmp_path):
    configuration.parse((), "sample_layer.width = 3")
    sample_layer()
    path = configuration.write_operative_config(tmp_path / "run", 120)
    assert path == str(tmp_path / "run" / "operative_config-120.gin")
    text = (tmp_path / "run" / "operative_config-120.gin").read_text()
    assert text == configuration.operative_config()
    assert "sample_layer.width = 3" in text and "sample_layer.depth = 2" in text
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["operative_config-120.gin"]
