"""Flax modules of the network, composed in `pose`."""
