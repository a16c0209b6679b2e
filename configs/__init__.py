"""Experiments as data, one per file. `common.py` has the shared defaults."""
