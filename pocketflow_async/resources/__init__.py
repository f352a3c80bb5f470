"""Shared resources: opened when they are first used, kept well, and closed in order."""
