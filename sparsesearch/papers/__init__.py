"""Schedules and results as published."""
