"""File formats: one file each, found here by itself; what a file is, and how files are found.

`base.Format` says what a format answers, and how one is added.
"""

import importlib
import pkgutil

import gin

with gin.unlock_config():  # parsing locks it, and each format brings a configurable
    for _module in pkgutil.iter_modules(__path__, __name__ + "."):
        importlib.import_module(_module.name)
