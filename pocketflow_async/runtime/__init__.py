"""Runtimes for workflows."""
