"""Starting `undrift up` as a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from undrift.config import Config
from undrift.errors import PlatformError, last_line
from undrift.host.process import ProcessFile, ProcessRecord

START_TIMEOUT_S = 300.0


def start_detached(path: Path, config: Config) -> ProcessRecord:
    """Start the platform, and wait until it is ready.

    Args:
        path: The YAML file.
        config: What it says.

    Raises:
        PlatformError: One runs already, or it did not get ready; then nothing is left of it.
    """
    runfile = ProcessFile.of(config)
    runfile.check_free()
    runfile.make_folder()
    log = runfile.folder / "undrift.log"
    with log.open("w", encoding="utf-8") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "undrift.cli", "up", "--config", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_TIMEOUT_S
    try:
        while True:
            record = runfile.running()
            if record is not None and record.pid == child.pid and record.url:
                return record
            if child.poll() is not None:
                text = log.read_text(encoding="utf-8", errors="replace")
                raise PlatformError(f"{last_line(text)} (all of it: {log})")
            if time.monotonic() > deadline:
                raise PlatformError(f"not ready after {START_TIMEOUT_S:g} s; see {log}")
            time.sleep(0.1)
    except BaseException:
        if child.poll() is None:
            child.terminate()
            child.wait()
        raise
