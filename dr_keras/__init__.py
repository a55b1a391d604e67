"""DataRater for TensorFlow and Keras: learn which training examples help, then filter by it.

The method is that of Calian et al., "DataRater: Meta-Learned Dataset Curation" (2025,
arXiv 2505.17895).
"""

__version__ = "0.1.0"
