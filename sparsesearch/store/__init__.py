"""The study store, the single source of truth for studies."""
