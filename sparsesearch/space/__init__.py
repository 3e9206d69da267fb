"""Search spaces: where predictors may sit and how much they may drop."""
