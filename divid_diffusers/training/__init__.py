"""The objective as something to import: losses, random draws of a step, a start at which both tokens matter."""
