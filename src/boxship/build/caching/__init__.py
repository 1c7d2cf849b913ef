"""What was built before, by what it was made of, and what of it is kept."""
