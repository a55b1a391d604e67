"""From a corpus to the four parts of examples that meta-training and evaluation use."""

from collections.abc import Mapping
import dataclasses
import functools
import logging

from dr_keras.data.corpora.base import Corpus, check_choice
from dr_keras.data.documents import Document, merge_duplicates
from dr_keras.data.examples import Parts, by_part, part_argument
from dr_keras.data.formats.base import FORMATS
from dr_keras.data.formats.kinds import TEXT
from dr_keras.data.formats.listing import Found, Paths, default_name, list_corpus
from dr_keras.data.splits import PARTS, PROTECTION, part_of, split_fractions
from dr_keras.data.targets import HELD_OUT, split_target
from dr_keras.data.tokenizers import Tokenizer
from dr_keras.data.windows import window_documents
from dr_keras.errors import ConfigurationError, DataError
import gin

_logger = logging.getLogger(__name__)


def split_documents(
    corpus: Corpus, fractions: Mapping[str, float] | None = None
) -> dict[str, list[Document]]:
    """Reads a corpus, merges exact duplicates, and splits it by what the documents say.

    Args:
      corpus: any corpus.
      fractions: share of each part; None for `split_fractions()`.

    Returns:
      Part name -> documents, in the order of the corpus; a part may be empty.
    """
    fractions = split_fractions() if fractions is None else fractions
    parts: dict[str, list[Document]] = {part: [] for part in PARTS}
    for document in merge_duplicates(corpus.documents()):
        parts[part_of(document.split_key, fractions)].append(document)
    return parts


@gin.configurable
def text_data(
    corpus: Corpus = gin.REQUIRED,
    tokenizer: Tokenizer = gin.REQUIRED,
    sequence_length: int = gin.REQUIRED,
    outer: Corpus | Mapping[str, Corpus | None] | None = None,
    validation: Corpus | None = None,
    test: Corpus | None = None,
    fractions: Mapping[str, float] | None = None,
    on_overlap: str = "stop",
    packing: bool = False,
    minimum_tokens: int = 2,
    target: Corpus | None = None,
    target_share: float | None = None,
    on_misfit: str = "stop",
) -> Parts:
    """Turns text into train, outer, validation and test examples.

    All four are split off `corpus`, unless a target is named, or a corpus of its own for a held-out
    part. The documents of `corpus` that would have made up such a part are then used nowhere, so
    that what was held out in one run never becomes training data in the next.

    Args:
      corpus: where the training text comes from; the weights of a mixture go with all its parts.
      tokenizer: turns text into ids.
      sequence_length: tokens in an example.
      outer: corpus of the meta-objective, if not part of `corpus`; several, with weights, are
        joined by `mixture_corpus`; one part of a corpus is taken by `corpus_part`. Or name ->
        corpus for several held-out sets with a loss each, which may share documents; None is the
        part of `corpus`.
      validation: corpus that chooses checkpoints and discard fractions; likewise.
      test: corpus that is reported; likewise.
      fractions: share of each part of `corpus`; None for `split_fractions()`.
      on_overlap: what to do about documents that lie in two parts because a named corpus repeats
        them: "stop" raises, "drop" keeps them in the more protected part only (test, then
        validation, then outer, then train).
      packing: whether examples may span documents.
      minimum_tokens: examples with fewer real tokens are left out.
      target: text of the kind that models are to be good at: it is split into the outer, the
        validation and the test part (`target_fractions`), by document or, where documents have
        groups, by group. Training documents that the held-out parts have too, by content or by
        group, are left out; how many is logged, as is what a tiny target risks.
      target_share: of the target that is held out; None for all of it, or 0.3 where all would take
        more than half of the training text away, because the corpus holds the target.
      on_misfit: of conversations, "stop" at one whose prompt fills a window, so that its response
        would stand in another, or whose response has no token; or "skip" those.

    Returns:
      The parts, with `tokens` int32 [N, sequence_length] and the labels `level` and `damage`; where
      there are conversations, all of them with `responses` bool [N, sequence_length] as well.

    Raises:
      ConfigurationError: something that is no corpus is given as one, or a target beside held-out
        parts of their own.
      DataError: parts overlap, one of them has no examples, or a conversation does not fit.
    """
    check_fractions(corpus, fractions)
    check_choice("text_data.on_overlap", on_overlap, ("stop", "drop"))
    held_out = by_part(outer, validation, test)
    named = {part: own for part, own in held_out.items() if own is not None}
    if named and target is not None:
        arguments = " and ".join(f"text_data.{part_argument(part)}" for part in named)
        raise ConfigurationError(
            f"text_data.target gives the outer, validation and test parts, and {arguments} names"
            " one as well: leave out the one or the other."
        )
    others = named if target is None else {"target": target}
    for part, value in {"corpus": corpus, **others}.items():
        if not isinstance(value, Corpus):
            raise ConfigurationError(
                f"text_data.{part_argument(part)} is {value!r}, which is no corpus: give it one,"
                " such as @jsonl_corpus(); several are joined by @mixture_corpus()."
            )
    split = split_documents(corpus, fractions)
    documents = {part: split[part.partition("/")[0]] for part in ("train", *held_out)}
    for part, own in named.items():
        documents[part] = merge_duplicates(own.documents())
    if named:
        _separate(documents, on_overlap)
    targeted = None
    if target is not None:
        targeted = split_target(split, corpus, target, target_share)
        documents = {part: targeted.documents[part] for part in documents}
        named = dict.fromkeys(HELD_OUT, target)
        for note in targeted.notes:
            _logger.warning("%s", note)
    sizes = ", ".join(f"{part} {len(members)}" for part, members in documents.items())
    _logger.info("documents: %s", sizes)
    spoken = any(one.turns is not None for members in documents.values() for one in members)
    windows = functools.partial(
        window_documents,
        tokenizer=tokenizer,
        sequence_length=sequence_length,
        packing=packing,
        minimum_tokens=minimum_tokens,
        responses=spoken,
        on_misfit=on_misfit,
    )
    sets = {}
    for part, members in documents.items():
        origin = named.get(part, corpus)
        sets[part] = windows(members, name=part, weights=origin.weights)
        if not len(sets[part]):
            raise DataError(
                f"The corpus '{origin.name}' gives the part '{part}' no examples (documents:"
                f" {sizes}; an example needs {minimum_tokens} tokens, by text_data.minimum_tokens):"
                " add documents, raise"
                f" {'target' if origin is target else 'split'}_fractions.{part.partition('/')[0]},"
                f" or name a corpus in text_data.{part_argument(part)}."
            )
    parts = Parts.of(sets, disjoint=True)
    if targeted is None:
        return parts
    own_test = windows(targeted.own_test, name="own test", weights=corpus.weights)
    return dataclasses.replace(
        parts,
        target=targeted.name,
        own_test=own_test if len(own_test) else None,
        notes=targeted.notes,
    )


@gin.configurable
def corpus_part(
    corpus: Corpus = gin.REQUIRED,
    part: str = gin.REQUIRED,
    fractions: Mapping[str, float] | None = None,
) -> Corpus:
    """One part of a corpus as a corpus, so that several held-out sets can share one.

    Args:
      corpus: any corpus.
      part: "train", "outer", "validation" or "test".
      fractions: share of each part; None for `split_fractions()`.
    """
    check_choice("corpus_part.part", part, PARTS)

    def read(skipped):
        for document in corpus.documents():
            if part_of(document.split_key, fractions) == part:
                yield document
        skipped.update(corpus.skipped)

    settings = {"part": part, "of": corpus.describe()}
    return Corpus(corpus.name, read, settings, weights=corpus.weights)


@gin.configurable("files_corpus")
def corpus_from_path(path: Paths, name: str | None = None) -> Corpus:
    """The corpus in a file, or in the files of one kind of a folder, glob or list.

    The files say of which kind it is: see `formats.kinds.what_is`. What gin binds for that kind
    (`jsonl_corpus.text_field`, ...) holds here too. Files that are passed over are logged.

    Args:
      path: local or through `tf.io.gfile`.
      name: of the corpus; None for what gin binds for that kind, else the name of the first path.

    Raises:
      DataError: there is no such path, or nothing that can be read in it.
      ConfigurationError: there are files of several kinds.
    """
    found = find_corpus_files(path)
    found.say()
    if name is None and "name" not in gin.get_bindings(f"{found.kind}_corpus"):
        name = default_name(path)
    return FORMATS[found.kind].corpus(found.paths, **{} if name is None else {"name": name})


def find_corpus_files(path: Paths) -> Found:
    """The files that `corpus_from_path` reads, and their kind; raises the same."""
    suffixes = gin.get_bindings("text_corpus").get("suffixes", TEXT)
    return list_corpus(path, tuple(suffixes))


def check_fractions(corpus: Corpus, fractions: Mapping[str, float] | None) -> None:
    """Raises ConfigurationError where a corpus treats its train part by itself, and means another
    part than the split does."""
    made_for = getattr(corpus, "fractions", None)
    fractions = split_fractions() if fractions is None else dict(fractions)
    if made_for is not None and dict(made_for) != fractions:
        raise ConfigurationError(
            f"the corpus '{corpus.name}' was damaged for the parts {made_for}, but text_data splits"
            f" it into {fractions}: give both the same, best by split_fractions alone."
        )


def _separate(documents: dict[str, list[Document]], on_overlap: str) -> None:
    """Makes the parts disjoint, in place, or raises DataError about the first overlap.

    Documents are one where they have the same content or the same group. Several outer sets,
    "outer/<name>", are one part here.
    """
    taken: dict[str, str] = {}

    def known(document: Document) -> str | None:
        """The part that has such a document."""
        return taken.get(document.key) or taken.get(document.split_key)

    for protected in PROTECTION:
        found: dict[str, str] = {}
        for part in [part for part in documents if part.partition("/")[0] == protected]:
            repeated = [document for document in documents[part] if known(document)]
            if repeated and on_overlap == "stop":
                others = [known(document) for document in repeated]
                other, count = others[0] or "", others.count(others[0])
                raise DataError(
                    f"The parts '{part}' and '{other}' overlap: {count} documents lie in both, for"
                    f" example '{repeated[0].id}' (source '{repeated[0].source}'). Name another"
                    f" corpus for text_data.{part_argument(other)}, take different parts of one"
                    " corpus with corpus_part, or set text_data.on_overlap = 'drop' to leave them"
                    f" out of '{part}'."
                )
            if repeated:
                count = len(repeated)
                _logger.info("%d documents left out of %s: held out elsewhere", count, part)
                documents[part] = [d for d in documents[part] if not known(d)]
            for document in documents[part]:
                found |= {document.key: part, document.split_key: part}
        taken.update(found)
