"""The edges: each does one kind of I/O and knows no other edge."""
