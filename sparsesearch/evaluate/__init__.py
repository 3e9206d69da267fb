"""Data, training and evaluation of schedules."""
