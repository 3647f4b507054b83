"""The jobs of another Ray cluster, and what travels with one."""
