"""The pure core: values and decisions. No clock, no randomness, no I/O, no order that depends on a hash."""
