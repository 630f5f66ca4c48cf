"""How devices are wired to each other."""
