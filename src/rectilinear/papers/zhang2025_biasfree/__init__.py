"""Figures of Zhang, Saxe, Latham on bias-free ReLU networks that are effectively linear, TMLR 2025.

"When Are Bias-Free ReLU Networks Effectively Linear Networks?", arXiv 2406.12615.
"""
