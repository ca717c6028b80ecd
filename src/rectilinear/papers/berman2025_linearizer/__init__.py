"""Berman, Hallak, Shocher, "Who Said Neural Networks Aren't Linear?", arXiv 2510.08570."""
