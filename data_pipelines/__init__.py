"""Sources of people, and the tf.data pipeline over them. Never imports flax."""
