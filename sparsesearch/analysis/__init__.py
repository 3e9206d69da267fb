"""The analysis of a study, as pure functions of its records."""
