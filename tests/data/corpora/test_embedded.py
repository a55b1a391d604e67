import inspect
import pydoc
import shutil
import textwrap

import pytest

from dr_keras.data.corpora.embedded import embedded_code, embedded_corpus
from dr_keras.data.documents import content_key, fingerprint
from dr_keras.errors import ConfigurationError, DataError

LONG = "A docstring that is long enough to be taken for prose by every default there is."


@pytest.fixture(scope="module")
def standard_library():
    corpus = embedded_corpus(("stdlib",))
    return corpus, {document.id: document for document in corpus.documents()}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Returns a function that writes {path: source} as the installed package `toypackage`."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(sources):
        for path, source in {"__init__.py": "", **sources}.items():
            file = tmp_path / "toypackage" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(source).replace("LONG", LONG))
        return embedded_corpus("toypackage")

    return write


def test_the_standard_library_is_read_as_pydoc_shows_it(standard_library):
    corpus, documents = standard_library
    assert documents["shutil.copytree"].text == inspect.getdoc(shutil.copytree)
    assert documents["pydoc"].text == inspect.getdoc(pydoc)
    topic = documents["pydoc_data.topics.assert"]
    assert topic.source == "topics" and topic.text.startswith('The "assert" statement')
    assert documents["pydoc"].source == "stdlib" and documents["pydoc"].corpus == "embedded"
    assert {d.source for d in documents.values()} == {"topics", "stdlib"}
    assert sum(len(d.text) for d in documents.values()) > 1_500_000
    assert corpus.skipped["shorter than min_characters"] > 1000


def test_the_topics_alone(standard_library):
    _, documents = standard_library
    found = list(embedded_corpus("topics").documents())
    assert found == [document for document in documents.values() if document.source == "topics"]


def test_it_holds_no_duplicates_no_tests_and_nothing_installed_by_pip(standard_library):
    _, documents = standard_library
    keys = {d.key for d in documents.values()}
    assert len(keys) == len(documents)
    assert all(d.key == content_key(d.text) for d in documents.values())
    assert any(d.count > 1 for d in documents.values())
    assert not [id for id in documents if id.startswith(("test.", "site-packages", "pip."))]


def test_a_pass_is_the_same_every_time(standard_library):
    corpus, documents = standard_library
    again = list(embedded_corpus(("stdlib",)).documents())
    assert again == list(documents.values())
    assert fingerprint(again) == fingerprint(documents.values())


def test_names_follow_the_nesting_of_definitions(package):
    corpus = package(
        {
            "__init__.py": '"""LONG package"""',
            "sub/deep.py": '''
                """LONG module"""
                if True:
                    def f():
                        """LONG f"""
                        class Inner:
                            """LONG inner"""
                else:
                    def f():
                        """LONG other f"""
                try:
                    pass
                except Exception:
                    async def g():
                        """LONG
                           g"""
                class C:
                    """Short."""
                    def method(self):
                        """LONG module"""
                    text = """LONG but no docstring"""
            ''',
        }
    )
    documents = list(corpus.documents())
    assert [(d.id, d.text.removeprefix(LONG), d.count) for d in documents] == [
        ("toypackage", " package", 1),
        ("toypackage.sub.deep", " module", 2),
        ("toypackage.sub.deep.f", " f", 1),
        ("toypackage.sub.deep.f.Inner", " inner", 1),
        ("toypackage.sub.deep.f~2", " other f", 1),
        ("toypackage.sub.deep.g", "\ng", 1),
    ]
    assert {d.source for d in documents} == {"toypackage"}
    assert corpus.skipped == {"shorter than min_characters": 1}


def test_documentation_added_from_outside(package):
    corpus = package(
        {
            "docs.py": '''
                add_newdoc("toypackage.core", "thing", """
                    LONG thing
                    """)
                add_newdoc("toypackage.core", "thing", ("part", """LONG part"""))
                add_newdoc("toypackage.core", "other", [("a", """LONG a"""), ("b", """LONG b""")])
                add_newdoc("toypackage.core", "made", "LONG" + str(1))
                add_newdoc("toypackage.core", "few")
            '''
        }
    )
    assert [(d.id, d.text.removeprefix(LONG)) for d in corpus.documents()] == [
        ("toypackage.core.thing", " thing"),
        ("toypackage.core.thing.part", " part"),
        ("toypackage.core.other.a", " a"),
        ("toypackage.core.other.b", " b"),
    ]


def test_tests_and_broken_source_are_left_out(package):
    corpus = package(
        {
            "good.py": '"""LONG good"""',
            "tests/x.py": '"""LONG x"""',
            "test_y.py": '"""LONG y"""',
            "z_test.py": '"""LONG z"""',
            "no-package/w.py": '"""LONG w"""',
            "old.py": '"""LONG old"""\nprint "python 2"',
        }
    )
    assert [d.id for d in corpus.documents()] == ["toypackage.good"]
    assert corpus.skipped == {"source that this Python cannot parse": 1}


def test_nothing_is_imported(package):
    corpus = package({"__init__.py": 'raise RuntimeError("imported")', "a.py": '"""LONG"""'})
    assert [d.id for d in corpus.documents()] == ["toypackage.a"]


def test_packages_that_are_not_there(package):
    for name in ("no_such_package", "os.path", "pydoc"):
        with pytest.raises(ConfigurationError, match=f"'{name}' is not an installed top-level"):
            embedded_corpus(("stdlib", name))
    with pytest.raises(ConfigurationError, match="packages is empty"):
        embedded_corpus(())
    with pytest.raises(DataError, match="corpus 'embedded' holds no documents"):
        list(package({}).documents())


def test_code_is_functions_as_written_without_their_docstrings(package):
    package(
        {
            "code.py": '''
                """LONG module"""
                class Some:
                    """LONG class"""
                    def method(self, x):  # of x
                        """LONG method"""
                        def inside(y):
                            return y + 1
                        return inside(x)

                async def short(): return 1

                if True:
                    def other(x):
                        return x * 2
                '''
        }
    )
    documents = list(embedded_code("toypackage", min_characters=20).documents())
    texts = {document.id: document.text for document in documents}
    assert texts == {
        "toypackage.code.Some.method()": (
            "def method(self, x):  # of x\n    def inside(y):\n        return y + 1\n"
            "    return inside(x)"
        ),
        "toypackage.code.short()": "async def short(): return 1",
        "toypackage.code.other()": "def other(x):\n    return x * 2",
    }
    assert {document.corpus for document in documents} == {"code"}
    with pytest.raises(ConfigurationError, match="embedded_code.packages: 'absent' is not"):
        embedded_code("absent")
