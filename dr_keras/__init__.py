"""DataRater for TensorFlow and Keras: learn which training examples help, then filter by it.

The method is that of Calian et al., "DataRater: Meta-Learned Dataset Curation" (2025,
arXiv 2505.17895). The names below are loaded when they are first used, so that `import dr_keras`
by itself starts nothing.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_WHERE = {
    "CuratedModel": "dr_keras.training.curated.model",
    "MetaTrainer": "dr_keras.meta.trainer",
    "OuterAdam": "dr_keras.meta.optimizers",
    "adam": "dr_keras.meta.optimizers",
    "adamw": "dr_keras.meta.optimizers",
    "byte_tokenizer": "dr_keras.data.tokenizers",
    "corpus_from_path": "dr_keras.data.prepare",
    "embedded_corpus": "dr_keras.data.corpora.embedded",
    "export_rater": "dr_keras.serving.export",
    "filter_by_percentile": "dr_keras.pipelines.transformations",
    "filter_corpus": "dr_keras.corpus_jobs.filtering",
    "language_model": "dr_keras.models.text_models",
    "load_rater": "dr_keras.serving.loading",
    "next_token_loss": "dr_keras.models.losses",
    "prepare_corpus": "dr_keras.corpus_jobs.preparing",
    "prepared_data": "dr_keras.data.prepared",
    "reweight": "dr_keras.pipelines.transformations",
    "text_data": "dr_keras.data.prepare",
    "text_rater": "dr_keras.models.text_models",
    "top_k": "dr_keras.pipelines.transformations",
}

if TYPE_CHECKING:  # for type checkers and editors, which run nothing
    from dr_keras.corpus_jobs.filtering import filter_corpus as filter_corpus
    from dr_keras.corpus_jobs.preparing import prepare_corpus as prepare_corpus
    from dr_keras.data.corpora.embedded import embedded_corpus as embedded_corpus
    from dr_keras.data.prepare import corpus_from_path as corpus_from_path
    from dr_keras.data.prepare import text_data as text_data
    from dr_keras.data.prepared import prepared_data as prepared_data
    from dr_keras.data.tokenizers import byte_tokenizer as byte_tokenizer
    from dr_keras.meta.optimizers import OuterAdam as OuterAdam
    from dr_keras.meta.optimizers import adam as adam
    from dr_keras.meta.optimizers import adamw as adamw
    from dr_keras.meta.trainer import MetaTrainer as MetaTrainer
    from dr_keras.models.losses import next_token_loss as next_token_loss
    from dr_keras.models.text_models import language_model as language_model
    from dr_keras.models.text_models import text_rater as text_rater
    from dr_keras.pipelines.transformations import filter_by_percentile as filter_by_percentile
    from dr_keras.pipelines.transformations import reweight as reweight
    from dr_keras.pipelines.transformations import top_k as top_k
    from dr_keras.serving.export import export_rater as export_rater
    from dr_keras.serving.loading import load_rater as load_rater
    from dr_keras.training.curated.model import CuratedModel as CuratedModel
else:  # checkers know lists that are written out only, and take all others for private
    __all__ = ["__version__"] + list(_WHERE)


def __getattr__(name: str) -> object:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'dr_keras' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(["__version__", *_WHERE])
