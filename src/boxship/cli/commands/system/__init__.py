"""Commands for the engine as a whole, for contexts, and for objects of every kind."""
