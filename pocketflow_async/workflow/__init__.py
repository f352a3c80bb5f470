"""Workflows: directed graphs of nodes that run as soon as their inputs are there."""
