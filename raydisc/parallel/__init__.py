"""Workers that compute one stage together: device mesh, sharding, collectives, sharded files."""
