"""From a budget to schedules that use it up: what can be reached, and the solve that fills it."""
