"""`python -m tracing` is `pocketflow-async`."""

from tracing.cli import main

if __name__ == "__main__":
    main()
