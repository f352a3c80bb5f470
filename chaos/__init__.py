"""What becomes of traces when the back end misbehaves and the process is killed: `make chaos`."""
