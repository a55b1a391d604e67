"""File formats: one file each, registered here by name; what a file is, and how files are found.

`base.Format` says what a format answers, and how one is added.
"""

import gin

with gin.unlock_config():  # parsing locks it, and each format brings a configurable
    from dr_keras.data.formats import jsonl, parquet, text, tfrecord
    from dr_keras.data.formats.base import register

register(jsonl.Jsonl())
register(parquet.Parquet())
register(tfrecord.TFRecord())
register(text.Text())
