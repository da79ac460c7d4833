"""Arguments on their way in: checked once, at the public boundary."""
