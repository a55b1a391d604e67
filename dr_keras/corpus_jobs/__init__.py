"""Jobs on whole corpora: by what a corpus and its scores are known."""
