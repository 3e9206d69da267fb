"""What a study is: its document, its trials, the events of a trial, and the protocols of its parts."""
