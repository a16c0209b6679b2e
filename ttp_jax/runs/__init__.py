"""What a run is: the experiment, its people, the passes over them, and what is written of it."""
