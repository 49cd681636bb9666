.PHONY: docs quality style test

check_dirs := benchmarks divid_diffusers docs examples tests training setup.py

# Looks, and changes nothing.
quality:
	ruff check $(check_dirs)
	ruff format --check $(check_dirs)
	lint-imports

style:
	ruff check --fix $(check_dirs)
	ruff format $(check_dirs)

# The API reference, from the docstrings: build/api/index.html
docs:
	python docs/reference/make.py build/api

test:
	python -m pytest tests
