"""The cost of schedules: multiply-adds in closed form, and predicted latency."""
