"""Zhang, Saxe, Latham, "When Are Bias-Free ReLU Networks Effectively Linear Networks?", TMLR 2025,
arXiv 2406.12615.
"""
