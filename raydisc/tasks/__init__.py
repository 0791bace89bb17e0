"""What is learned: data, tokenising, batching and metrics."""
