"""The patterns, each in a module: what it adds to a builder, and the work of its nodes."""
