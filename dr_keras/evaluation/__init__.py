"""Does the filtered corpus train better models? Training runs, metrics, comparison, results."""
