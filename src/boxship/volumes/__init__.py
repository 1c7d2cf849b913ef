"""Volume drivers: named and anonymous volumes of the local driver."""
