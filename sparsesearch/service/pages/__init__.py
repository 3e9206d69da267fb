"""The pages of the service: HTML from templates, which also work without JavaScript."""
