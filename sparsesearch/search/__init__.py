"""The search: the controller of a study, its samplers, and the selection of finalists."""
