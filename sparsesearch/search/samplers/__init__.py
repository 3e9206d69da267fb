"""What proposes shapes: our evolution, and Optuna's samplers behind the same protocol."""
