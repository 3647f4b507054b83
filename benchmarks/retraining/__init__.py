"""Retraining methods at equal compute, and ten tasks in a row.

One run, for tuning or a look:

    from benchmarks.retraining.runs import run_one

    found = run_one(
        "mnist-usps", "bandit", 0.25, seed=100, overrides={"learning_rate": 2e-3}, data_dir=DIR
    )
    found["mean"], found["new"], found["old"], found["forgetting"], found["cpu_s"]

``tasks.TASKS`` names the tasks; docs/retraining.md tells how to add your own. The third argument is
the share of a full retrain's operations that may be spent; ``overrides`` are fields of
``TrainSettings``, and ``kind`` to override what the product's monitor says of the drift. Use seeds
from 100 on: they see rows that reported seeds never do. Base models are trained on first use and
kept in ``build/retraining``. Call ``torch.set_num_threads(1)`` first if times matter.
"""
