"""Trackers, which log running studies. Only this package imports MLflow and plotly, and only when they are used."""
