"""tf.data pipelines that select and weight by a rater."""
