"""What is watched: one signal to a file, each held to the same contract."""
