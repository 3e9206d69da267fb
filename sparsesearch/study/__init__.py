"""The definition of a study: its document, trials, events of trials, and the protocols of its components."""
