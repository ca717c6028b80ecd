"""Lakkapragada, "A Novel Explanation Against Linear Neural Networks", arXiv 2401.00186."""
