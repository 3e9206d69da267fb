"""The study store: the only truth."""
