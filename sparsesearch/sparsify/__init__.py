"""Tensor code of sparsification, ignorant of models and studies."""
