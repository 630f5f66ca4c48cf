"""What devices share: the batch, the layers, or each layer."""
