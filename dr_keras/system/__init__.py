"""The machine beneath: files that are whole or absent, who may write where, errors of the operating system."""
