"""The text of a web page: by a library that knows what of a page is its text, or whole."""

import codecs
from collections.abc import Callable
import importlib
import re

from dr_keras.errors import ConfigurationError

# bytes of a page and what the server says of their encoding, or "" -> text
Extractor = Callable[[bytes, str], str]

_META = re.compile(rb"""<meta[^>]+charset\s*=\s*["']?\s*([-\w:.]+)""", re.IGNORECASE)
_HEAD = 1024  # bytes in which pages say their encoding (HTML, "Determining the character encoding")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What pages say, and browsers take it for (WHATWG, Encoding Standard, "Names and labels").
_MEANT = {"iso8859-1": "cp1252", "ascii": "cp1252"}


def resiliparse_text(page: bytes, charset: str) -> str:
    """The main content as plain text, by resiliparse (Bevendorff et al., 2018), which is what the
    corpus DCLM-Baseline was made with; the fastest one."""
    library = _library("resiliparse.extract.html2text")
    return library.extract_plain_text(decoded(page, charset), main_content=True, alt_texts=False)


def trafilatura_text(page: bytes, charset: str) -> str:
    """The main content as plain text, by trafilatura (Barbaresi, 2021), which is what the corpus
    FineWeb was made with; leaves out more, and is far slower."""
    library = _library("trafilatura")
    return library.extract(decoded(page, charset), include_comments=False) or ""


def whole_page(page: bytes, charset: str) -> str:
    """The page as it is, with its markup."""
    return decoded(page, charset)


# What `warc_corpus.extract` may name; an own one is one more entry, made before gin is parsed.
EXTRACTORS: dict[str, Extractor] = {
    "resiliparse": resiliparse_text,
    "trafilatura": trafilatura_text,
    "whole": whole_page,
}


def decoded(page: bytes, charset: str = "") -> str:
    """A page as a text: by its byte order mark, else by what the server says, else the page, else
    as UTF-8. What is invalid becomes U+FFFD, as in browsers.

    Args:
      page: bytes.
      charset: the encoding that the server says; "" for none, and one that is not known is none.
    """
    for mark, encoding in _MARKS:
        if page.startswith(mark):
            return page.removeprefix(codecs.BOM_UTF8).decode(encoding, "replace")
    said = _META.search(page[:_HEAD])
    for name in (charset, said[1].decode("ascii", "replace") if said else ""):
        try:
            found = codecs.lookup(name.strip()).name
            return page.decode(_MEANT.get(found, found), "replace")
        except (LookupError, ValueError):  # of the first: no such encoding, or none of text
            continue
    return page.decode("utf-8", "replace")


def _library(name: str):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.split(".")[0]
        raise ConfigurationError(
            f"warc_corpus.extract is {package!r}, which cannot be imported ({error}): pip install"
            f" {'dr_keras[web]' if package == 'resiliparse' else package!r}, or set"
            ' warc_corpus.extract = "whole", which keeps the markup.'
        ) from error
