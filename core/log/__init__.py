"""The durable log: what was acknowledged, on disk, in the order in which it happened."""
