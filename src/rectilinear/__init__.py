"""Linear algebra for neural networks, in PyTorch."""
