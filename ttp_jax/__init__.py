"""Test-Time Personalization of 2-D human pose models in JAX."""

__version__ = "0.1.0"
