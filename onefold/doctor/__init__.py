"""`onefold doctor`: whether a machine, and its way to the others, is as a node needs it; and what to do where not."""
