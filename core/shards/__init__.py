"""The event loops that drive all of the above: connections, mailboxes, commands and events, turns."""
