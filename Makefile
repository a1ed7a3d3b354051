# Every target is described by the comment after its name; `make` prints them.
PYTHON = .venv/bin/python3 -I
SHELL_FILES = $(shell grep -rlE "^\#!.*(bats|sh)$$|^\# shellcheck shell=" *.sh bin lib templates tests .ci)

.PHONY: help demo test lint escape bench clean
.DEFAULT_GOAL := help

help: ## print this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

demo: ## the guided tour: a real PostgreSQL in a sandbox
	./demo.sh

test: ## every test; as root, a second time as an ordinary user
	tests/run

lint: ## shellcheck, shfmt, ruff, mypy --strict
	bin/bootstrap --dev
	.venv/bin/shellcheck $(SHELL_FILES)
	.venv/bin/shfmt -d $(SHELL_FILES)
	$(PYTHON) -m ruff check pyhelpers tests
	$(PYTHON) -m ruff format --check pyhelpers tests
	$(PYTHON) -m mypy
	cd pyhelpers && ../$(PYTHON) -m mypy --config-file ../pyproject.toml -p launch

escape: ## the escape tests alone, as a table
	bin/bootstrap --dev
	.venv/bin/python3 -m pytest -q tests/escape

bench: ## native server against sandbox: a table and a JSON file
	bin/bootstrap --dev
	.venv/bin/python3 tests/bench/bench.py

clean: ## remove .venv and caches; environments are left alone
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
