"""Messages as Arrow streams."""
