"""Dynamics of linear networks, a figure each: Saxe 2014, Woodworth 2020, Cohen 2021.

Written from the mathematics of the papers.
"""
