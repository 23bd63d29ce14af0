"""The same programs written twice: as requests, and with DSPy alone."""
