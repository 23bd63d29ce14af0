"""Programs as data, checked without DSPy: what they take, give and call."""
