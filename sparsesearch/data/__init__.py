"""Images and labels: sources, splits, loading, and tasks."""
