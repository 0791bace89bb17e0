"""The experiment file: its sections, the reader of YAML, and every check that needs neither data nor weights."""
