"""Seeded faults in real studies, and what must hold after each."""
