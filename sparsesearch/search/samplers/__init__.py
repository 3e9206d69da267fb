"""Samplers: our evolution, and Optuna's samplers behind the same interface."""
