"""A stable address for a machine-learning model, and swaps of the version behind it without a lost request."""

__version__ = "0.1.0"
