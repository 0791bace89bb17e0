"""Training and inference loops, which know neither schedules nor Ray."""
