.PHONY: docs quality style test test-minimum

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

# The oldest versions that setup.py admits, in an environment of their own: TESTS="tests/models" for less than everything.
# It comes first on the path, as an active one does: accelerate looks there for its mpirun.
TESTS ?= tests
test-minimum:
	python3 -m venv --clear build/minimum
	build/minimum/bin/pip install --quiet --no-deps --editable . packaging
	build/minimum/bin/python tests/minimum_versions.py > build/minimum/versions.txt
	build/minimum/bin/pip install --quiet -c build/minimum/versions.txt --editable ".[dev]"
	PATH="$(CURDIR)/build/minimum/bin:$$PATH" python -m pytest -n auto $(TESTS)
