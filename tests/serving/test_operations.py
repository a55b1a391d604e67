"""What graphs of raters may hold, and that everything else is named and not loaded."""

import hashlib
import json
import shutil
from types import SimpleNamespace

import keras
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from dr_keras.commands import filter_corpus, score_corpus, score_examples
from dr_keras.config.gin_files import packaged_folder
from dr_keras.corpus_jobs import job
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.errors import ArtefactError
from dr_keras.serving import export, loading, operations
from dr_keras.serving.export import export_rater
from dr_keras.serving.loading import load_rater
from dr_keras.serving.window_scoring import WindowScoring
import gin

TEXT = "The keys of the dictionary are strings, and its values are lists of numbers."
SHIPPED = packaged_folder("savedmodels") / "damaged_prose" / "1"


def parsed(path):
    return saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())


@pytest.fixture(scope="module")
def original():
    return parsed(SHIPPED)


@pytest.fixture
def model(original):
    copy = saved_model_pb2.SavedModel()
    copy.CopyFrom(original)
    return copy


def function(model, part):
    """The first function of the graph whose name has `part`."""
    library = model.meta_graphs[0].graph_def.library.function
    return next(each for each in library if part in each.signature.name)


def check(model, tmp_path, modules=()):
    (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())
    operations.check(str(tmp_path), [""], modules)


def refusal(model, tmp_path):
    with pytest.raises(ArtefactError, match="has operations that no rater needs") as raised:
        check(model, tmp_path)
    return str(raised.value).partition("needs: ")[2].partition(". They")[0]


FOREIGN = [
    "ReadFile", "WriteFile", "MatchingFiles", "PyFunc", "EagerPyFunc", "PyFuncStateless",
    "ImmutableConst", "Abort", "DebugIdentity", "PrintV2", "InitializeTableFromTextFileV2",
    "TextLineDataset", "DataServiceDatasetV2", "FixedLengthRecordReaderV2", "RemoteCall", "Send",
    "DecodeProtoV2", "XlaCustomCall", "LoadAndRemapMatrix", "Save", "RestoreSlice", "RpcClient",
    "SaveV2", "RestoreV2", "MergeV2Checkpoints", "FileSystemSetConfiguration",
    "GenerateVocabRemapping", "SentencepieceOp", "NoSuchOperation", "tf.io", "\N{SNOWMAN}\n",
]  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_an_operation_that_no_rater_has_is_refused_wherever_it_is(model, tmp_path, name):
    graph = model.meta_graphs[0].graph_def
    for nodes in (graph.node, function(model, "serve_text").node_def):
        added = nodes.add()
        added.name, added.op = "added", name
        assert refusal(model, tmp_path) == ascii(name)[1:-1]
        nodes.remove(added)
    check(model, tmp_path)


def test_all_are_named_or_counted(model, tmp_path):
    for name in FOREIGN[:12]:
        model.meta_graphs[0].graph_def.node.add().op = name
    found = refusal(model, tmp_path)
    assert found.endswith("and 2 more") and found.count(",") == 9


def test_operations_of_text_go_with_their_module(model, tmp_path):
    model.meta_graphs[0].graph_def.node.add().op = "SentencepieceTokenizeOp"
    assert refusal(model, tmp_path) == "SentencepieceTokenizeOp"
    check(model, tmp_path, ["tensorflow_text"])


def test_what_models_compute_with_is_known(model, tmp_path):
    names = (
        "Conv2D FusedBatchNormV3 MaxPool Relu Gelu Sigmoid Einsum Bucketize DecodePng Roll FFT"
        " LookupTableFindV2 StatelessRandomUniformV2 RandomUniform TensorListStack SparseToDense"
        " UniqueV2 TopKV2 DynamicStitch RaggedGather CudnnRNNV3 ResourceGather StringSplitV2"
    )
    known = [n for n in names.split() if hasattr(tf.raw_ops, n)]
    assert len(known) > 20
    for name in known:
        model.meta_graphs[0].graph_def.node.add().op = name
    check(model, tmp_path)


def saver(model):
    return function(model, "traced_save")


def named_in_objects(model):
    objects = model.meta_graphs[0].object_graph_def
    node = objects.nodes.add()
    node.bare_concrete_function.concrete_function_name = saver(model).signature.name


def called_by_another(model):
    node = function(model, "serve").node_def.add()
    node.name, node.op = "added", "StatefulPartitionedCall"
    node.attr["f"].func.name = saver(model).signature.name


def given_to_another(model):
    node = function(model, "serve").node_def.add()
    node.name, node.op = "added", "Identity"
    inner = node.attr["x"].list.func.add().attr["y"].func
    inner.name = saver(model).signature.name


def swapped_in(model):
    saver(model).attr["api_implements"].s = b"score"


def used_as_gradient(model):
    added = model.meta_graphs[0].graph_def.library.gradient.add()
    added.function_name, added.gradient_func = "x", saver(model).signature.name


def used_as_registered_gradient(model):
    added = model.meta_graphs[0].graph_def.library.registered_gradients.add()
    added.gradient_func = saver(model).signature.name


def used_as_an_operation(model):
    function(model, "serve").node_def.add().op = saver(model).signature.name


@pytest.mark.parametrize(
    "use",
    [
        named_in_objects, called_by_another, given_to_another, swapped_in, used_as_gradient,
        used_as_registered_gradient, used_as_an_operation,
    ],
)  # fmt: skip
def test_what_saves_variables_is_out_of_reach_of_signatures(model, tmp_path, use):
    check(model, tmp_path)
    use(model)
    assert refusal(model, tmp_path) == "MergeV2Checkpoints, SaveV2"


def test_a_function_cannot_stand_in_for_an_operation(model, tmp_path):
    library = model.meta_graphs[0].graph_def.library.function
    for name in ("ReadFile", "my_function"):
        library.add().signature.name = name
        model.meta_graphs[0].graph_def.node.add().op = name
    assert refusal(model, tmp_path) == "ReadFile"


def test_other_ways_of_loading_than_the_one_that_is_checked_are_refused(model, tmp_path):
    model.meta_graphs.add()
    with pytest.raises(ArtefactError, match="is not as an exported rater's is"):
        check(model, tmp_path)
    del model.meta_graphs[:]
    with pytest.raises(ArtefactError, match="is not as an exported rater's is"):
        check(model, tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 9)
    with pytest.raises(ArtefactError, match="saved_model.pb is no SavedModel"):
        operations.check(str(tmp_path), [""], [])


def seal(folder, name, content):
    """Writes a file, and what rater.json says of it."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    stored = json.loads((folder / "rater.json").read_text())
    stored["files"][name] = len(content)
    stored["sha256"][name] = hashlib.sha256(content).hexdigest()
    (folder / "rater.json").write_text(json.dumps(stored))


@pytest.fixture
def writer(tmp_path, model):
    """A whole rater that writes a file whenever it scores windows, and the file."""
    target = tmp_path / "written"
    serve = function(model, "signature_wrapper_serve_tokens")
    for name, text in (("path", str(target)), ("content", "anything")):
        constant = serve.node_def.add()
        constant.name, constant.op = name, "Const"
        constant.attr["dtype"].type = tf.string.as_datatype_enum
        constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(text))
    node = serve.node_def.add()
    node.name, node.op = "write", "WriteFile"
    node.input.extend(["path:output:0", "content:output:0"])
    serve.control_ret["write"] = "write"
    serve.signature.control_output.append("write")
    copy = shutil.copytree(SHIPPED, tmp_path / "1")
    seal(copy, "saved_model.pb", model.SerializeToString())
    return copy, target


def test_a_rater_that_writes_files_is_loaded_only_when_trusted(writer):
    path, target = writer
    said = "saved_model.pb has operations that no rater needs: WriteFile. They may read and write"
    with pytest.raises(ArtefactError, match=f"{said}.*trusted=True.*--trust_rater"):
        load_rater(path)
    assert not target.exists()
    rater = load_rater(path, trusted=True)
    assert rater.trusted and not load_rater(SHIPPED).trusted
    assert rater(TEXT) == load_rater(SHIPPED)(TEXT)
    assert target.read_text() == "anything"


def test_the_second_graph_of_a_rater_is_looked_at_too(tmp_path, model):
    path = shutil.copytree(SHIPPED, tmp_path / "1")
    seal(path, f"{export.CORE_COPY}/saved_model.pb", model.SerializeToString())
    load_rater(path)
    model.meta_graphs[0].graph_def.node.add().op = "ReadFile"
    seal(path, f"{export.CORE_COPY}/saved_model.pb", model.SerializeToString())
    with pytest.raises(ArtefactError, match="core/1/saved_model.pb has operations .* ReadFile"):
        load_rater(path)


def test_workers_load_a_rater_as_it_was_loaded_before(monkeypatch):
    asked = []
    monkeypatch.setattr(loading, "load_rater", lambda path, trusted: asked.append((path, trusted)))
    for trusted in (True, False):
        rater = SimpleNamespace(path="rater", score_texts=None, trusted=trusted)
        source = SimpleNamespace(fields={}, files=())
        job.new_job(source, rater, "", WindowScoring(1), 1).work.load()
    assert asked == [("rater", True), ("rater", False)]


def test_the_commands_say_whether_a_rater_is_trusted(monkeypatch, tmp_path, capsys):
    def ask(path, trusted):
        raise ArtefactError(f"{path} trusted={trusted}")

    monkeypatch.setattr(loading, "load_rater", ask)
    (tmp_path / "a.jsonl").write_text('{"text": "A text."}\n')
    files = ["--input", str(tmp_path / "a.jsonl"), "--rater", "R"]
    example = ["--rater", "R", "--output", str(tmp_path / "scores.jsonl")]
    for command, flags in (
        (score_examples, example), (score_corpus, files), (filter_corpus, files),
    ):  # fmt: skip
        for more in ([], ["--trust_rater"]):
            assert command.main([*flags, *more]) == 2
            gin.clear_config()  # a command has a process of its own
            assert f"R trusted={bool(more)}" in capsys.readouterr().err


def test_who_exports_such_a_rater_is_told(new_rater, references, tmp_path, caplog):
    inner = new_rater(0)
    said = keras.layers.Lambda(lambda x: (tf.print("seen"), x)[1], output_shape=(16,))
    tokens = keras.Input((16,), dtype="int32", name="tokens")
    rater = keras.Model({"tokens": tokens}, inner({"tokens": said(tokens)}))
    path = export_rater(rater, byte_tokenizer(), 16, tmp_path, references[0])
    assert "operations that load_rater refuses unless told (PrintV2" in caplog.text
    with pytest.raises(ArtefactError, match="operations that no rater needs: PrintV2"):
        load_rater(path)
    assert load_rater(path, trusted=True).trusted
    caplog.clear()
    export_rater(inner, byte_tokenizer(), 16, tmp_path / "other", references[0])
    assert not caplog.text
