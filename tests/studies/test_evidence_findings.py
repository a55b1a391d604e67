"""What is measured of a rater's windows."""

from dr_keras.data.documents import make_document
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.data.windows import window_documents
from dr_keras.studies.evidence_findings import of_windows


def test_features_of_windows():
    documents = [make_document(text, "s", f"d{k}") for k, text in enumerate(["abcdef", "g", "h"])]
    plain = window_documents(documents, byte_tokenizer(), 4, minimum_tokens=1)
    assert {name: values.tolist() for name, values in of_windows(plain).items()} == {
        "packing_density": [1, 0.5, 0.25, 0.25]
    }
    packed = of_windows(window_documents(documents, byte_tokenizer(), 4, packing=True))
    assert packed["packing_density"].tolist() == [1, 1, 0.75]
    assert packed["documents_packed"].tolist() == [1, 2, 2]
