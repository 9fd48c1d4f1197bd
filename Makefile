# `make` shows what there is. Everything runs in .venv.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint docs wheel clean

BIN := .venv/bin
OUT ?= demo-out
PYTHON ?=
TORCH_INDEX ?=
export PYTHON TORCH_INDEX

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make .venv with the tested versions (PYTHON=, TORCH_INDEX= to choose)
	@tools/setup.sh

demo: setup ## the whole path on phantom patients, into OUT=demo-out
	@$(BIN)/medssl demo $(OUT)
	@echo "For these commands, first: source .venv/bin/activate"

lint: setup ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

test: lint ## lint, then the fast tests
	@$(BIN)/python -m pytest -n auto --dist loadfile

test-slow: setup ## the slow tests: wheel, browser, long runs
	@$(BIN)/python -m pytest -m slow

docs: setup ## write docs/reference from the code, docs/claims.md from the results
	@$(BIN)/python tools/make_reference.py
	@$(BIN)/python tools/make_claims.py

wheel: setup ## build dist/*.whl
	@$(BIN)/python -m build --wheel

clean: ## remove what the tools leave behind (not .venv)
	@rm -rf dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
