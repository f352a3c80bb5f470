"""Read a folder of real files, analyse them six at a time, write a report.

The analyser refuses work when it is busy, so some files take several attempts: look at the trace.
The flow itself is in `tracing/demo.py`, since `pocketflow-async demo` runs it too.

    python examples/analyse_folder.py [FOLDER]
"""

import sys
from pathlib import Path

from tracing import demo

if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(demo.__file__).parent)
    report = Path("pocketflow-report.md")
    try:
        trace_id = demo.run(folder, report)
    except demo.DemoError as error:
        sys.exit(f"{Path(__file__).name}: {error}")
    print(report.read_text(encoding="utf-8").splitlines()[0].lstrip("# "), f"-> {report}")
    print(f"pocketflow-async show {trace_id[:8]}")
