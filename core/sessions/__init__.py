"""What outlives a connection: messages, subscriptions, inflight windows, inboxes, sessions, tenants."""
