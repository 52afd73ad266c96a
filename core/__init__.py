"""The data plane: everything that touches a message, compiled and without the GIL."""
