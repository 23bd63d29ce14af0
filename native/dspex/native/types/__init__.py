"""The types of values: how they are written, what they hold, their constraints."""
