"""Greets."""

print("made by make")
