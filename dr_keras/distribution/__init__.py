"""Where a population lives: on one device, or spread over the replicas of a tf.distribute strategy."""
