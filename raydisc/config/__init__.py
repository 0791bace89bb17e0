"""The experiment file: its sections, how YAML is read, and every check that needs neither data nor weights."""
