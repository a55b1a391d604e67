"""Pages, plots and pictures."""
