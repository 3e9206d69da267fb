"""Models that timm does not have: a module for each kind, whose `BACKBONES` are found by being here."""
