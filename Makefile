.PHONY: quality docs test
quality: ## style and types
	bash runs/env.sh dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
docs: ## the docs site, into site/
	bash runs/env.sh dev
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict
test: ## every test
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n auto --dist loadfile
