"""Files: atomic writes, locks, tensors, images."""
