"""DataRater for TensorFlow and Keras: learn which training examples help, then filter by it.

The method is that of Calian et al., "DataRater: Meta-Learned Dataset Curation" (2025,
arXiv 2505.17895). The names below are loaded when they are first used, so that `import dr_keras`
by itself starts nothing.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:  # for type checkers and editors, which run nothing
    from dr_keras.corpus_jobs.filtering import filter_corpus
    from dr_keras.data.corpora.embedded import embedded_corpus
    from dr_keras.data.prepare import corpus_from_path, text_data
    from dr_keras.data.tokenizers import byte_tokenizer
    from dr_keras.meta.optimizers import OuterAdam, adam, adamw
    from dr_keras.meta.trainer import MetaTrainer
    from dr_keras.models.losses import next_token_loss
    from dr_keras.models.text_models import language_model, text_rater
    from dr_keras.pipelines.filter_by_percentile import filter_by_percentile
    from dr_keras.pipelines.reweight import reweight
    from dr_keras.pipelines.top_k import top_k
    from dr_keras.serving.export import export_rater
    from dr_keras.serving.loading import load_rater

_WHERE = {
    "MetaTrainer": "dr_keras.meta.trainer",
    "OuterAdam": "dr_keras.meta.optimizers",
    "adam": "dr_keras.meta.optimizers",
    "adamw": "dr_keras.meta.optimizers",
    "byte_tokenizer": "dr_keras.data.tokenizers",
    "corpus_from_path": "dr_keras.data.prepare",
    "embedded_corpus": "dr_keras.data.corpora.embedded",
    "export_rater": "dr_keras.serving.export",
    "filter_by_percentile": "dr_keras.pipelines.filter_by_percentile",
    "filter_corpus": "dr_keras.corpus_jobs.filtering",
    "language_model": "dr_keras.models.text_models",
    "load_rater": "dr_keras.serving.loading",
    "next_token_loss": "dr_keras.models.losses",
    "reweight": "dr_keras.pipelines.reweight",
    "text_data": "dr_keras.data.prepare",
    "text_rater": "dr_keras.models.text_models",
    "top_k": "dr_keras.pipelines.top_k",
}

__all__ = [
    "MetaTrainer",
    "OuterAdam",
    "__version__",
    "adam",
    "adamw",
    "byte_tokenizer",
    "corpus_from_path",
    "embedded_corpus",
    "export_rater",
    "filter_by_percentile",
    "filter_corpus",
    "language_model",
    "load_rater",
    "next_token_loss",
    "reweight",
    "text_data",
    "text_rater",
    "top_k",
]


def __getattr__(name: str) -> object:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'dr_keras' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
