"""The HTTP API: a face of the node."""
