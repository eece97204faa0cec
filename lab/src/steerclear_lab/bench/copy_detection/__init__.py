"""The copy detector measured on altered copies, and on pictures that are none."""
