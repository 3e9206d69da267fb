"""Latency profiles: design of the measurements, and the fit."""
