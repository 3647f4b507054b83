"""The door: ``python -m benchmarks.detection --data-dir DIR``."""

from __future__ import annotations

from benchmarks.detection.run import main

if __name__ == "__main__":
    main()
