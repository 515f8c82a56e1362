"""The node: one loop around the flow of a change, a file for each station.

`due` → `look` → (core.diff) → `propose` → `append` → the log → `apply` → (core.plan) → `place` → the folder, and again.
Beside it: `sweep` (what no event told of), `hold` and `large` (content on a majority before its entry), `lead` (who
leads), `report` (what a node says of itself), `answer` (what it is asked); `loop` puts them together.
The node decides nothing that the core can decide, and knows the world only through the ports.
"""
