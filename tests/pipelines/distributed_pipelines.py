"""Run by test_distributed_pipelines.py in a process of its own, with two logical CPUs.

Prints one JSON object of what each case gave.
"""

import json
import sys

import keras
import numpy as np
import tensorflow as tf

import dr_keras
from dr_keras.rating.reference import ReferenceDistribution

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2

with strategy.scope():  # variables of the rater and the model are mirrored
    inputs = keras.Input((2,))
    rater = keras.Model(inputs, keras.layers.Dense(1, use_bias=False)(inputs)[:, 0])
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
rater.layers[1].set_weights([np.array([[1.0], [0.0]], np.float32)])
model.layers[0].set_weights([np.zeros((2, 1), np.float32)])

x = np.stack([np.arange(64), np.ones(64)], axis=1).astype(np.float32)
rows = tf.data.Dataset.from_tensor_slices(x)
reference = ReferenceDistribution.from_scores(x[:, 0])


def per_replica(distributed):
    """Rows that each replica gets, step by step."""
    run = tf.function(lambda batch: strategy.run(lambda part: part[:, 0], [batch]))
    steps = [strategy.experimental_local_results(run(batch)) for batch in distributed]
    return [[part.numpy().tolist() for part in step] for step in steps]


def of_inputs(transformation):
    """The transformation made inside the function that builds an input pipeline."""

    def build(context):
        shard = rows.shard(context.num_input_pipelines, context.input_pipeline_id)
        return shard.apply(transformation).rebatch(
            context.get_per_replica_batch_size(8), drop_remainder=True
        )

    return strategy.distribute_datasets_from_function(build)


filter_ = dr_keras.filter_by_percentile(rater, 0.5, 8, reference=reference)
results = {
    "top_k": per_replica(
        strategy.experimental_distribute_dataset(rows.apply(dr_keras.top_k(rater, 0.5, 8)))
    ),
    "top_k_from_function": per_replica(of_inputs(dr_keras.top_k(rater, 0.5, 8))),
    "filter": per_replica(
        strategy.experimental_distribute_dataset(rows.apply(filter_).batch(8, drop_remainder=True))
    ),
    "filter_alone": [float(row[0]) for row in rows.apply(filter_)],
}
pairs = tf.data.Dataset.from_tensor_slices((x / 64, x[:, :1] / 64))
weighed = pairs.apply(dr_keras.reweight(rater, 8, temperature=0.5, drop_remainder=True))
weights = np.concatenate([w for _, _, w in weighed.as_numpy_iterator()])
results["reweight_expected"] = float(np.mean(weights * (x[:, 0] / 64) ** 2))
results["reweight_fit"] = model.fit(weighed, epochs=1, verbose=0).history["loss"][0]
json.dump(results, sys.stdout)
