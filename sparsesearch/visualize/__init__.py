"""Figures: Pareto fronts, latencies, and the tokens that a schedule keeps."""
