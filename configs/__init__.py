"""Experiments as data: one file, one experiment. `common.py` holds the shared defaults."""
