"""The command line: a module each command, with its arguments and run(options)."""
