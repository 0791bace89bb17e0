"""Workers that compute one stage together: device mesh, sharding, synchronisation, sharded files."""
