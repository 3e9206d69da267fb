"""Search spaces: where predictors may be and how much they may drop."""
