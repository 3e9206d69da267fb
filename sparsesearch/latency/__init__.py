"""Measuring on hardware; torch, timm and pydantic are all it needs."""
