.PHONY: quality style test

check_dirs := benchmarks divid_diffusers examples tests training setup.py

# Looks, and changes nothing.
quality:
	ruff check $(check_dirs)
	ruff format --check $(check_dirs)

style:
	ruff check --fix $(check_dirs)
	ruff format $(check_dirs)

test:
	python -m pytest tests
