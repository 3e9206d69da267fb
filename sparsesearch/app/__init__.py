"""The use cases: the application layer, which wires all other packages together."""
