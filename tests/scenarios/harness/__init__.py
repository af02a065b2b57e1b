"""Real daemons in network namespaces: what the scenario suite and scripts/demo are built from."""
