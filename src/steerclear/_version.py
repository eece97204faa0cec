"""The version, for whatever writes it down without needing the rest."""

__version__ = "0.1.0"
