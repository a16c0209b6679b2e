"""Rendered people: who they are, how they move, and pictures of them."""
