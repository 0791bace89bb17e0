"""The cost of an experiment, from its file, its data and the teacher's configuration, without training anything."""
