"""Runs: the experiment, its subjects, the passes over their frames, and the outputs."""
