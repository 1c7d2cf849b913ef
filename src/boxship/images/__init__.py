"""Images: references, manifests, import, load, save, list, tag, remove, history, and bootstrap from a package archive."""
