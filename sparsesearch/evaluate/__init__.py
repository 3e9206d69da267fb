"""Evaluation of schedules: evaluators, time budget and throughput."""
