"""Load generator and comparison with other brokers. Measures, never runs in production."""
