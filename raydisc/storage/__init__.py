"""Where runs keep what they find: a folder that every node sees, or an address that pyarrow.fs opens."""
