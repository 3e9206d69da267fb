"""Pure decisions: proposals, samplers, baselines, fronts."""
