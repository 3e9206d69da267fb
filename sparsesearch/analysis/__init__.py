"""What a study has found, as pure functions of its records."""
