.PHONY: docs quality style test

check_dirs := benchmarks divid_diffusers examples tests training setup.py

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
	pdoc --docformat google --output-directory build/api divid_diffusers \
		$(shell find divid_diffusers/data divid_diffusers/evaluation -name '[a-z]*.py' | sort | tr / . | sed 's/\.py$$//')

test:
	python -m pytest tests
