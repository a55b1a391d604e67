"""Labelled images: where they come from, how they are corrupted, how they become examples."""
