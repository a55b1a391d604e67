"""The machine beneath: whole files, who may write where, errors of the system."""
