"""Recipes and checkpoints that leave a study."""
