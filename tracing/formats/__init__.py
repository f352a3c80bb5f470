"""Traces as files: written for other programs, and read back."""
