"""Images between here and elsewhere: registries, and engines over ssh."""
