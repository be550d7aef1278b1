"""Learning: how System 1 gets better by what people corrected."""
