"""Where a population lives: on one device, or on the replicas of a tf.distribute strategy."""
