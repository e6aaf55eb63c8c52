# Everything runs in .venv, which make creates from constraints.txt on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Number of test processes. They wait more than they compute; each uses up to 3 GB of memory.
JOBS ?= 3
INSTALLED := $(VENV)/.installed
# The plugins that the tests use.
PLUGINS := --disable-plugin-autoload -p xdist -p timeout -p hypothesispytest

.DEFAULT_GOAL := help
.PHONY: help install demo test smoke lint format docs mlflow clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED)  ## create the environment (about 7 GB, a few minutes)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	@echo "installing into $(VENV): this takes a few minutes, but only once"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile \
		--constraint constraints.txt --editable '.[dev]'
	@echo "compiling the installed packages"
	@# Unlike pip, compile on all cores. Some packages contain files for other Python versions.
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $@

demo: $(INSTALLED)  ## run a real search on bundled images (about a minute after installation)
	@$(BIN)/python search.py

test: $(INSTALLED)  ## run all tests, three files at a time (another number: make test JOBS=2)
	@# Tests start many processes, and none of these writes byte code.
	@$(BIN)/python -m compileall -qq -j 0 search spaces trainables cluster benchmarks experiments docs
	@$(BIN)/python tests/compile_tests.py
	@# pytest would compile all modules of plugins that it loads by itself, in each process.
	@$(BIN)/python -m pytest $(PLUGINS) -n $(JOBS) --dist loadfile --no-loadscope-reorder

smoke: $(INSTALLED)  ## run every benchmark once, at its smallest size
	@$(BIN)/python -m pytest $(PLUGINS) -m smoke -n 2 --maxschedchunk 1 tests/benchmarks/test_smoke.py

lint: $(INSTALLED)  ## run ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@cd mlflow && ../$(BIN)/mypy --config-file ../pyproject.toml *.py

format: $(INSTALLED)  ## format the code with ruff
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .

docs: $(INSTALLED)  ## build the documentation in site/
	@$(BIN)/python -m docs.generate
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

mlflow: $(INSTALLED)  ## serve the MLflow UI of the local store (another port: make mlflow PORT=5001)
	@sh mlflow/serve.sh $(if $(PORT),--port $(PORT))

clean:  ## remove the environment and caches, but keep runs/
	@rm -rf $(VENV) *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis site
