"""Families of models: a module for each, which has the functions of `Family` and is found by being here."""
