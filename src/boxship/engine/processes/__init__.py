"""The engine's end of the processes that outlive it: launcher, shims, execs, and the streams attached to them."""
