"""The command line: the parser, and what each subcommand does."""
