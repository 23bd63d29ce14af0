"""Programs as data, checked without DSPy: what they take, give, call and have learned."""
