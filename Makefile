.PHONY: format lint test slow benchmark

format:
	ruff format .
	ruff check --fix .

lint:
	ruff format --check .
	ruff check .
	mypy

test:
	python -m pytest

slow:
	python -m pytest -m "slow or not slow"

benchmark:
	python recipes/benchmarks/compare_with_llama.py
