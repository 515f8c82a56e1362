"""The node: one loop around the flow of a change, a file for each station.

`look` → (core.diff) → `propose` → `append` → the log → `apply` → (core.plan) → `place` → the folder, and `look` again.
Beside it: `lead` (who leads), `hold` (content on a majority before its entry), `report` (what a node says of itself).
The node decides nothing that the core can decide, and knows the world only through the ports.
"""
