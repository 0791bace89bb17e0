"""The storage of runs: a folder that every node sees, or an address that ``pyarrow.fs`` opens."""
