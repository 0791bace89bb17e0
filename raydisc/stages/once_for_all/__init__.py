"""The once-for-all stage: every candidate of the grid trained in one set of weights."""
