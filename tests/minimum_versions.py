"""
The oldest versions that setup.py admits, as constraints for `pip install -c`: see `make test-minimum`. They are read
from the package as it is installed, so that no bound is written twice.
"""

import importlib.metadata

from packaging.requirements import Requirement


def minimum_versions(requirements: list[str]) -> list[str]:
    """`name==version` for each of the requirements. Raises ValueError for one without a lower bound."""
    pins = set()
    for requirement in map(Requirement, requirements):
        bounds = [clause.version for clause in requirement.specifier if clause.operator == ">="]
        if len(bounds) != 1:
            raise ValueError(
                f"setup.py asks for '{requirement}': give it one lower bound, '>=', that has been tested."
            )
        pins.add(f"{requirement.name}=={bounds[0]}")
    return sorted(pins)


if __name__ == "__main__":
    print("\n".join(minimum_versions(importlib.metadata.requires("divid_diffusers"))))
