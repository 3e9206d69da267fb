"""What a schedule costs: closed form and traced."""
