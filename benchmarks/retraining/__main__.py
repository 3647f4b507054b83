"""The door: ``python -m benchmarks.retraining --data-dir DIR``."""

from __future__ import annotations

from benchmarks.retraining.run import main

if __name__ == "__main__":
    main()
