"""Adapters that make timm models sparse in place."""
