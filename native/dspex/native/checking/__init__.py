"""Values held against signatures."""
