"""How devices share a batch, the layers, and each layer."""
