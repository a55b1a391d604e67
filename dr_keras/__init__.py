"""DataRater for TensorFlow and Keras: learn which training examples help, then filter by it.

The method is that of Calian et al., "DataRater: Meta-Learned Dataset Curation" (2025,
arXiv 2505.17895). The names below are loaded when they are first used, so that `import dr_keras`
by itself starts nothing.
"""

import importlib

__version__ = "0.1.0"

_WHERE = {
    "MetaTrainer": "dr_keras.meta.trainer",
    "OuterAdam": "dr_keras.meta.outer_optimizer",
    "adam": "dr_keras.meta.inner_optimizers",
    "adamw": "dr_keras.meta.inner_optimizers",
    "byte_tokenizer": "dr_keras.data.tokenizers",
    "corpus_from_path": "dr_keras.data.prepare",
    "embedded_corpus": "dr_keras.data.corpora.embedded",
    "export_rater": "dr_keras.serving.export",
    "filter_by_percentile": "dr_keras.pipelines.filter_by_percentile",
    "filter_corpus": "dr_keras.corpus_jobs.filtering",
    "language_model": "dr_keras.models.language_model",
    "load_rater": "dr_keras.serving.loading",
    "next_token_loss": "dr_keras.models.losses",
    "reweight": "dr_keras.pipelines.reweight",
    "text_data": "dr_keras.data.prepare",
    "text_rater": "dr_keras.models.rater",
    "top_k": "dr_keras.pipelines.top_k",
}

__all__ = [*sorted(_WHERE), "__version__"]  # noqa: PLE0604


def __getattr__(name: str):
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'dr_keras' has no attribute {name!r}")


def __dir__():
    return __all__
