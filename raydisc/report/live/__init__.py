"""The live view of a run: a screen where there is a terminal, plain lines elsewhere."""
