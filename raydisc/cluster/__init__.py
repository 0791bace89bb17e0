"""Ray clusters elsewhere: an experiment sent as a job, watched, stopped."""
