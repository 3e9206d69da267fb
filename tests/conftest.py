"""Makes `sample_study` importable from every folder of tests."""
