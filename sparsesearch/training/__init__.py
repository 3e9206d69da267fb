"""The training loop, its objectives, and the kinds of training a study consists of."""
