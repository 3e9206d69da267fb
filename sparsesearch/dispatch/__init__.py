"""Dispatchers, which execute trials."""
