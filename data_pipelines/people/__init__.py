"""Who is in a video, and where: detection, tracking, and the choice of one person."""
