"""Kills executions of workflows at every step, and looks whether they go on as they should."""
