"""One schedule, stage, family, structure, loss, task and metric that raydisc finds by their entry points."""
