"""The command line: the parser and the implementation of each subcommand."""
