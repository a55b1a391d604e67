import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dr_keras.data.documents import document_id
from dr_keras.data.formats.parquet import parquet_corpus
from dr_keras.errors import DataError


def write(path, **columns):
    pq.write_table(pa.table(columns), path, row_group_size=300, write_page_checksum=True)
    return path


def invalid_strings(*values):
    """A string column whose bytes are not checked, as other writers make them."""
    _, offsets, content = pa.array(values, pa.binary()).buffers()
    return pa.StringArray.from_buffers(len(values), offsets, content)


def test_columns_and_defaults(tmp_path):
    path = write(
        tmp_path / "web.parquet",
        text=["gr\u00fcn", "two", "", "four"],
        id=[4, None, 6, 7],
        source=pa.array(["s", None, "s", "t"]).dictionary_encode(),
        other=[1.0, 2.0, 3.0, 4.0],
    )
    corpus = parquet_corpus(path)
    documents = list(corpus.documents())
    assert [(d.id, d.text, d.source, d.corpus) for d in documents] == [
        ("4", "gr\u00fcn", "s", "web"),
        (document_id("web", "two"), "two", "web", "web"),
        ("7", "four", "t", "web"),
    ]
    assert corpus.skipped == {"empty text": 1}
    assert list(corpus.documents()) == documents


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.string_view(),
        pa.binary_view(), pa.dictionary(pa.int8(), pa.string()),
    ],
    ids=str,
)  # fmt: skip
def test_types_of_text_and_more_rows_than_a_batch(tmp_path, kind):
    texts = [f"text {i % 100}" for i in range(1000)]
    write(tmp_path / "x.parquet", body=pa.array(texts).cast(kind))
    assert [d.text for d in parquet_corpus(tmp_path, "body").documents()] == texts
    assert len(list(parquet_corpus(tmp_path, "body", max_documents=301).documents())) == 301


def test_columns_that_do_not_fit(tmp_path):
    path = write(tmp_path / "x.parquet", body=["a"], id=[0.5], n=[1])
    message = "no column 'text'; its columns: body, id, n; set parquet_corpus.text_column"
    with pytest.raises(DataError, match=message):
        list(parquet_corpus(path).documents())
    with pytest.raises(DataError, match="column 'n' holds int64, not strings; name another"):
        list(parquet_corpus(path, "n", id_column=None).documents())
    with pytest.raises(DataError, match="x.parquet, row 1: the id is no string or integer"):
        list(parquet_corpus(path, "body").documents())
    assert len(list(parquet_corpus(path, "body", id_column="n").documents())) == 1


def test_malformed_rows_stop_with_their_place_or_are_counted(tmp_path):
    path = write(tmp_path / "null.parquet", text=["good", None, "also good"])
    with pytest.raises(DataError, match="null.parquet, row 2: null in column 'text'"):
        list(parquet_corpus(path).documents())
    other = write(tmp_path / "utf8.parquet", text=invalid_strings(b"fine", b"b\xff"))
    with pytest.raises(DataError, match="utf8.parquet, row 2: invalid UTF-8 .*position 1"):
        list(parquet_corpus(other).documents())
    corpus = parquet_corpus([path, other], on_malformed="skip")
    assert [d.text for d in corpus.documents()] == ["good", "also good", "fine"]
    assert corpus.skipped == {"null in column 'text'": 1, "invalid UTF-8": 1}


def test_damaged_files_are_named(tmp_path):
    path = write(tmp_path / "x.parquet", text=[f"text {i * 7919}" for i in range(1000)])
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    for content in (whole[:-50], whole[:100], b"", b"plain text, no Parquet at all", damaged):
        path.write_bytes(content)
        with pytest.raises(DataError, match="x.parquet: cut short, damaged, or not a Parquet file"):
            list(parquet_corpus(path).documents())


def test_missing_and_empty(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        parquet_corpus(tmp_path / "no.parquet")
    path = write(tmp_path / "x.parquet", text=pa.array([], pa.string()))
    with pytest.raises(DataError, match="corpus 'x' holds no documents"):
        list(parquet_corpus(path).documents())


def documents(path, *arguments, **settings):
    found = parquet_corpus(path, *arguments, **settings).documents()
    return [(d.id, d.text, d.source) for d in found]


def test_fields_of_structs_by_a_path(tmp_path):
    data = [{"text": "a", "about": {"id": 1, "url": "u"}}, None, {"text": "c", "about": None}]
    path = write(tmp_path / "x.parquet", data=data, other=[1, 2, 3])
    names = ("data.text", "data.about.id", "data.about.url")
    hashed = document_id("x", "c")
    assert documents(path, *names, on_malformed="skip") == [("1", "a", "u"), (hashed, "c", "x")]
    with pytest.raises(DataError, match="row 2: null in column 'data.text'"):
        documents(path, *names)
    for name in ("data.body", "data.text.more", "body.text"):
        with pytest.raises(DataError, match=f"no column {name!r}; its columns: data, other; set"):
            documents(path, name)
    # a column that is called like a path comes first
    columns = {"data": data, "data.text": ["A", "B", "C"]}
    path = write(tmp_path / "y.parquet", **columns)
    assert [text for _, text, _ in documents(path, "data.text")] == ["A", "B", "C"]


@pytest.mark.parametrize(
    "column, kind",
    [
        ([["a"], ["b"]], "list<element: string>"),
        ([{"body": "a"}, None], "struct<body: string>"),
        ([1.5, 2.0], "double"),
        ([True, False], "bool"),
    ],
)
def test_types_that_are_no_text_are_refused_by_their_setting(tmp_path, column, kind):
    path = write(tmp_path / "x.parquet", text=column, body=["a", "b"])
    with pytest.raises(DataError) as error:
        documents(path)
    message = str(error.value)
    assert f"x.parquet: column 'text' holds {kind}, not strings; name another column" in message
    assert ("such as 'text.body' of its fields" in message) == kind.startswith("struct")
    assert "in parquet_corpus.text_column" in message
    with pytest.raises(DataError, match=r"holds .*, not strings; .* in .*source_column"):
        documents(path, "body", source_column="text")
    if kind != "double":
        with pytest.raises(DataError, match="not strings or integers; .* parquet_corpus.id_column"):
            documents(path, "body", "text")


def test_integers_that_pandas_made_floats(tmp_path):
    ids = [12.0, None, float("nan"), -3.0, 2.0**53]
    path = write(tmp_path / "x.parquet", text=list("abcde"), id=pa.array(ids, from_pandas=False))
    hashed = [document_id("x", text) for text in "bc"]
    assert [id for id, _, _ in documents(path)] == ["12", *hashed, "-3", "9007199254740992"]
    for wrong, why in ((12.5, "it is a float"), (1e300, "too large"), (float("inf"), "a float")):
        write(path, text=["a", "b"], id=[1.0, wrong])
        with pytest.raises(DataError, match=f"x.parquet, row 2: the id is no string or int.*{why}"):
            documents(path)
        assert [text for _, text, _ in documents(path, on_malformed="skip")] == ["a"]


def test_two_columns_of_one_name(tmp_path):
    path = tmp_path / "x.parquet"
    arrays = [pa.array(["a"]), pa.array(["b"]), pa.array(["c"])]
    pq.write_table(pa.table(arrays, names=["text", "other", "other"]), path)
    assert [text for _, text, _ in documents(path)] == ["a"]
    for settings in ({"text_column": "other"}, {"source_column": "other"}, {"id_column": "other"}):
        (setting,) = settings
        with pytest.raises(DataError, match=f"2 columns are called 'other'.*corpus.{setting}.*"):
            documents(path, **settings)
