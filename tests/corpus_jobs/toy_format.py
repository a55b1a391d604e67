"""A format of one's own for the tests: lines of an id and a text with a tab between them.

All that a new format takes is here: an `import toy_format` line in a gin file brings it.
"""

from dr_keras.data.corpora.base import Malformed
from dr_keras.data.documents import decode, make_document
from dr_keras.data.formats.base import LineFormat, parsed, register
from dr_keras.data.formats.reading import read_lines, stem
from dr_keras.data.formats.records import file_corpus
import gin


@gin.configurable
def toy_corpus(
    path, text_column: int = 1, source=None, name=None, on_malformed="stop", max_documents=None
):
    return file_corpus(
        "toy",
        path,
        name,
        max_documents,
        text_column=text_column,
        source=source,
        on_malformed=on_malformed,
    )


class Toy(LineFormat):
    name = "toy"
    suffixes = (".toy", ".tsv")
    text_argument = "text_column"
    corpus = staticmethod(toy_corpus)

    def read(self, part, fields, whole):
        for _, line in read_lines(part.path, 1 << 20, part.start, part.end):
            yield parsed(document, line, fields, fields["source"] or stem(part.path), whole=line)


def document(line, fields, source):
    columns = decode(line).split("\t")
    if len(columns) <= fields["text_column"]:
        raise Malformed("too few columns", f"{len(columns)}")
    return make_document(columns[fields["text_column"]], source, columns[0])


register(Toy())
