"""Latency measurements on hardware; requires only torch, timm and pydantic."""
