"""What the rater learned: plots and the report."""
