"""Trained models as files for deployment: one exported program, formats made from it, and their checks."""
