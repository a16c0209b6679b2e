"""Data sources, and the tf.data pipeline over them. Never imports flax."""
