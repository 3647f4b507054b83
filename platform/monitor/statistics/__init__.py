"""What the signals are made of: bets, ranks, detectors, estimates."""
