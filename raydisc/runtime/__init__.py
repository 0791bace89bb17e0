"""Ray: driver, trials, hot copies of artifacts. Nothing below this folder imports Ray."""
