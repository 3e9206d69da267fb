"""Images and labels: sources, splits, loading, and the task they make."""
