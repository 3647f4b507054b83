# One door to every command; each makes its own environment first. `make` alone lists them.
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TYPES := build/types/undrift
EXTRAS := demo,bench,dev
UNIT := not ray and not demo and not slow
QUICK := $(UNIT) and not thorough
SIDE_BY_SIDE = -n $(WORKERS) --dist loadscope --ignore tests/ray
ONE_BY_ONE := --reruns 1 -r fER --durations 15
WORKERS ?= $(shell nproc 2>/dev/null || echo 2)
# Lanes of the gate, which run beside each other. The unit tests leave a core to the others, and those
# of Ray come first, for they take longest and mostly wait. A lane tells all when it has ended.
LANES := gate-ray gate-units types gate-demo
gate-%: WORKERS := $(shell echo $$(($(WORKERS) > 1 ? $(WORKERS) - 1 : 1)))
TOGETHER := -j3 --keep-going --no-print-directory $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
# Clients of the protocol that do not fit beside our own versions, each in an environment of its own.
CLIENTS := kserve==0.21.0 mlserver==1.7.1
# Packages that weights come from, on top of our environment: they want other versions than it has.
SOURCES := mlflow==3.17.2 transformers==5.24.0
CHECKED := platform bandits tests $(wildcard benchmarks examples)

# The first interpreter that is new enough; override with `make PYTHON=/path/to/python`.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# Compiled and rewritten modules are kept from run to run; they are half of what a short run takes. Modules are compiled
# when they are first used: pip would compile 19,000, one after the other, for a minute, of which few are ever used.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-all $(LANES) check unit format docs golden lint types clients sources audit lock clean

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

demo: $(STAMP) ## run the digits stream to the end and write its report
	$(BIN)/undrift demo

test: lint ## all that continuous integration runs
	@$(MAKE) $(TOGETHER) $(LANES)

gate-units: $(STAMP)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "$(UNIT)"

gate-ray: $(STAMP)
	$(BIN)/python -m pytest $(ONE_BY_ONE) -m "ray and not slow" tests/ray

gate-demo: $(STAMP)
	$(BIN)/python -m pytest $(ONE_BY_ONE) -m "demo and not slow" tests/demo

test-all: lint types build/clients/.installed sources ## the same, and the suites that take minutes each
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not ray and not demo"
	$(BIN)/python -m pytest $(ONE_BY_ONE) -m "ray or demo"

check: lint types ## the inner loop, under a minute: no Ray, no demo, nothing thorough
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "$(QUICK)"

unit: $(STAMP) ## the unit tests alone
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not slow" tests/unit

format: $(STAMP) ## format the code, and mend what ruff can mend
	$(BIN)/ruff check --fix $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

docs: $(STAMP) ## write the pages that are made from the code
	@mkdir -p build
	$(BIN)/undrift config reference > build/settings.md && mv build/settings.md docs/settings.md
	$(BIN)/python -m undrift.control.diagram > build/lifecycle.md && mv build/lifecycle.md docs/lifecycle.md

golden: $(STAMP) ## write the state folder that later releases must read
	$(BIN)/python -m tests.helpers.golden

lint: $(STAMP)
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)

# mypy cannot see through the import hook of an editable install, so it reads a tree of links
# in which platform/ is called undrift.
types: $(STAMP)
	@rm -rf $(TYPES) && mkdir -p $(TYPES)
	@ln -s $(addprefix $(CURDIR)/,$(filter-out %/starter,$(wildcard platform/*)) bandits) $(TYPES)
	MYPYPATH=$(dir $(TYPES)) $(BIN)/mypy

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "undrift needs Python 3.11 or newer; none found." \
		"Install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { echo "$(PYTHON) cannot make a virtual" \
		"environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e ".[$(EXTRAS)]"
	@touch $@

clients: $(STAMP) build/clients/.installed ## ask a platform by the clients of others, each in its own environment; needs PyPI
	$(BIN)/python -m pytest --reruns 1 tests/ray/test_foreign_clients.py

build/clients/.installed: Makefile
	@test -n "$(PYTHON)" || { echo "undrift needs Python 3.11 or newer" >&2; exit 1; }
	@for client in $(CLIENTS); do \
		$(PYTHON) -m venv --clear build/clients/$${client%%=*} && \
		build/clients/$${client%%=*}/bin/python -m pip install --quiet --disable-pip-version-check $$client \
		|| exit 1; done
	@touch $@

sources: $(STAMP) build/sources/.installed ## bring weights from MLflow and transformers, installed beside us; needs PyPI
	build/sources/bin/python -m pytest tests/elsewhere

build/sources/.installed: Makefile $(STAMP)
	@$(BIN)/python -m venv --clear build/sources
	@$(BIN)/python -c "import site; print(f'import site; site.addsitedir({site.getsitepackages()[0]!r})')" \
		> $$(build/sources/bin/python -c "import site; print(site.getsitepackages()[0])")/below.pth
	build/sources/bin/python -m pip install --quiet --disable-pip-version-check $(SOURCES)
	@touch $@

audit: ## look the versions of constraints.txt up among known vulnerabilities; needs PyPI
	@test -n "$(PYTHON)" || { echo "undrift needs Python 3.11 or newer" >&2; exit 1; }
	@test -x build/audit/bin/pip-audit || { $(PYTHON) -m venv --clear build/audit && \
		build/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit; }
	build/audit/bin/pip-audit --strict --disable-pip --no-deps -r constraints.txt

lock: ## resolve the dependencies anew and write constraints.txt
	@test -n "$(PYTHON)" || { echo "undrift needs Python 3.11 or newer" >&2; exit 1; }
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check -e ".[$(EXTRAS)]"
	{ sed -n '/^#/p' constraints.txt; \
	  build/lock/bin/python -m pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//'; } > build/constraints.txt
	mv build/constraints.txt constraints.txt
	rm -rf build/lock

clean: ## remove the environment and what was built
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache
