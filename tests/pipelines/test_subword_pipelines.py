"""Raters over subwords: whatever holds the vocabulary, pipelines can be resumed."""

import gc
import io

import numpy as np
import pytest
import tensorflow as tf

from dr_keras.data.tokenizers import sentencepiece_tokenizer, wordpiece_tokenizer
from dr_keras.models.text_models import text_rater
from dr_keras.pipelines.transformations import top_k
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.serving.export import export_rater
from dr_keras.serving.loading import load_rater

pytest.importorskip("tensorflow_text")
TEXTS = ["the cats sat at the bat.", "a cat and a rat at a mat!", "é, the rats the bats.", ""] * 4


def wordpiece(folder):
    path = folder / "words.txt"
    path.write_text(
        "\n".join(
            ["[PAD]", "[UNK]", "[SEP]", "the", "cat", "rat", "a", "##s", "sat", "at", ".", "!"]
        )
    )
    return wordpiece_tokenizer(str(path))


def sentencepiece(folder):
    pieces = pytest.importorskip("sentencepiece")
    writer = io.BytesIO()
    pieces.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS[:3]),
        model_writer=writer,
        vocab_size=22,
        minloglevel=2,
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
    )
    path = folder / "pieces.model"
    path.write_bytes(writer.getvalue())
    return sentencepiece_tokenizer(str(path))


@pytest.mark.parametrize("make", [pytest.param(wordpiece, marks=pytest.mark.long), sentencepiece])
def test_iterators_over_subword_raters_can_be_checkpointed(make, tmp_path, resumes):
    tokenizer = make(tmp_path)
    live = text_rater(tokenizer.vocabulary_size, sequence_length=8, width=8, layer_count=1)
    live.get_layer("score").set_weights([np.linspace(-1, 1, 8)[:, None], np.array([0.1])])
    reference = ReferenceDistribution(np.array([-3.0, 3.0]))
    path = export_rater(live, tokenizer, 8, str(tmp_path / "export"), reference)
    dataset = tf.data.Dataset.from_tensor_slices(TEXTS).apply(top_k(path, 0.5, 2))
    gc.collect()  # the pipeline itself must keep the vocabulary alive
    rater = load_rater(path)
    expected = []
    for first in range(0, 16, 4):
        order = np.argsort(-rater(TEXTS[first : first + 4])["score"], kind="stable")
        expected.append([TEXTS[first + n].encode() for n in np.sort(order[:2])])
    assert [batch.tolist() for batch in dataset.as_numpy_iterator()] == expected
    resumes(dataset, 2)
