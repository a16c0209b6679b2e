"""The people in a video: detection, tracking, and the choice of one person."""
