# `make demo` and `make test` set up .venv themselves, the first time.
# Another Python (3.10 to 3.12): make PYTHON=python3.12 demo
PYTHON ?= python3
# Whose MMDetection: onedl (maintained, in .venv) or openmmlab (its last
# releases, in .venv-openmmlab): make STACK=openmmlab demo
STACK := onedl
# Arguments for the demo or for pytest: make test ARGS="-k loss"
ARGS ?=
# Workers of one thread and about 2 GiB, with one more than there are cores: some wait.
WORKERS = $(shell n=$$(nproc 2>/dev/null || echo 1); echo $$((n < 7 ? n + 1 : 8)))
PYTEST = -m pytest -n $(WORKERS) --dist worksteal
TESTS = tests
# Of these, what depends most on whose MMDetection it is.
STACK_TESTS = tests/bad_input tests/configs tests/heads tests/hooks tests/tools

# Where no PYTHON is asked for, the one that .venv was made with stays.
KEEP := $(if $(filter file,$(origin PYTHON)),--keep-python)
VENV = $(if $(filter openmmlab,$(STACK)),.venv-openmmlab,.venv)
RUN = . $(VENV)/env.sh && $(VENV)/bin/python

.PHONY: help setup demo test test-all test-openmmlab lint docs clean distclean

help:
	@echo 'make demo       train a detector on scenes of digits, evaluate it, draw it'
	@echo 'make test       run the tests (ARGS="-k loss" chooses among them)'
	@echo 'make test-all   run those that are long by nature too, and some with OpenMMLab'
	@echo 'make test-openmmlab  run them with what OpenMMLab released last'
	@echo 'make lint       check the style and the types of the code'
	@echo 'make docs       build the documentation as a site, in site/'
	@echo 'make setup      only set up .venv, as demo and test do when needed'
	@echo 'make clean      remove caches and build outputs'
	@echo 'make distclean  remove .venv and .venv-openmmlab as well'
	@echo 'PYTHON=python3.12 after any of these chooses the Python.'

setup:
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo 'There is no $(PYTHON) here. Install Python 3.10, 3.11 or 3.12,' \
	    'or name one: make PYTHON=/path/to/python3.12 demo' >&2; exit 1; }
	@"$(PYTHON)" tools/setup_env.py --stack "$(STACK)" $(KEEP)

demo: setup
	@$(RUN) tools/demo.py $(ARGS)

test: setup
	@$(RUN) $(PYTEST) -m 'not long' $(TESTS) $(ARGS)

test-all: setup
	@$(RUN) $(PYTEST) $(TESTS) $(ARGS)
	@$(MAKE) STACK=openmmlab TESTS='$(STACK_TESTS)' ARGS= test

test-openmmlab:
	@$(MAKE) STACK=openmmlab test

# By content, not by time: a .venv made anew has no stamp, an old commit another.
.venv/dev.stamp: setup
	@cmp -s requirements/dev.txt $@ || { \
	  echo 'Adding what requirements/dev.txt lists to .venv, once' && \
	  .venv/bin/python -m pip install -q -c requirements/lock.txt \
	    -r requirements/dev.txt && \
	  cp requirements/dev.txt $@; }

lint: .venv/dev.stamp
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check .
	@.venv/bin/python -m mypy

# The theme's notice of what comes after MkDocs 1 concerns no reader.
docs: .venv/dev.stamp
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict
	@echo 'The site begins with site/index.html'

clean:
	rm -rf build dist site ape_mmdet.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv .venv-openmmlab
