"""Formats: a module for each, which has the functions of `Format` and is found by being here."""
