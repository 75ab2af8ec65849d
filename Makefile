.PHONY: quality test
quality: ## style and types
	bash runs/env.sh dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
test: ## every test
	.venv/bin/python -m pytest
