"""Budgets: which are feasible for a space, and the solver that scales schedules to them."""
