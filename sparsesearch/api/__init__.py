"""The Python interface: the use cases of the command line, in the same words."""
