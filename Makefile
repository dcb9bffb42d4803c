# Each target sets up what it needs: a virtual environment in this checkout, the package and its extras.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The three folders as the one package that they install as, by links: mypy then sees through every import.
TYPES := build/types

.PHONY: table4 tables test lint docs types clean

table4: $(VENV)/.installed
	$(BIN)/python examples/table4.py

tables: $(VENV)/.installed
	$(BIN)/python examples/tables.py

test: $(VENV)/.ready lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.ready types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The pages, in build/site. A warning is an error.
docs: $(VENV)/.docs types
	OMP_NUM_THREADS=1 NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "open build/site/index.html"

types:
	@rm -rf $(TYPES) && mkdir -p $(TYPES)/mag2
	@for each in $$(ls mag2) adapters baselines; do \
	  if [ -e mag2/$$each ]; then ln -s ../../../mag2/$$each $(TYPES)/mag2/; else ln -s ../../../$$each $(TYPES)/mag2/; fi; \
	done

# Installed in place, so that an edit needs no second install; made anew when the metadata change. The tables need less
# than the tests, and so wait less.
$(VENV)/.installed: setup.cfg pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit('mag2 needs Python 3.10 or newer, this is ' + sys.version.split()[0]) if sys.version_info < (3, 10) else None"
	@echo "installing into $(VENV), once"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --editable ".[figures]"
	@touch $@

$(VENV)/.ready: $(VENV)/.installed
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --editable ".[test,figures,report,video]"
	@touch $@

$(VENV)/.docs: $(VENV)/.installed
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --editable ".[docs]"
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
