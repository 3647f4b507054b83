"""Sources of weights that take packages of their own: `make sources`.

MLflow wants another pyarrow than we are tested with, so it has an environment of its own; elsewhere
nothing here is collected.
"""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("mlflow") and find_spec("transformers") else ["test_*.py"]
