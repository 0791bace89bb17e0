"""One schedule, family, loss, task and metric that raydisc finds by their entry points."""
