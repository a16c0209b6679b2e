"""Who is in a video, and where: detections, people followed through time, the choice of one."""
