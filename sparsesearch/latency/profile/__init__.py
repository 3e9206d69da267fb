"""Latency profiles: what is measured, and what is learned from it."""
