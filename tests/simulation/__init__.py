"""Whole clusters in one process, from a seed. See README.md in this folder."""
