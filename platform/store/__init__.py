"""What outlives a restart: predictions, labels, events, versions and trainings, in one folder."""
