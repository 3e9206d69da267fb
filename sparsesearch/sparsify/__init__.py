"""Tensor operations of sparsification, independent of models and studies."""
