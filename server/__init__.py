"""The control plane on trio: configuration, listeners, authentication, supervision of the shards."""
