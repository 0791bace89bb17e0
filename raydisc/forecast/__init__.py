"""What an experiment will cost, from its file, its data and the teacher's configuration: nothing is trained."""
