"""Files of records: what a file is, and how files of each format are found and read."""
