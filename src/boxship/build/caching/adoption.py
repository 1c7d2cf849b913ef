"""``--cache-from``: layers of an image that was built elsewhere by the same steps (pure).

An image from a registry has no cache records, only its history. What was built is the same when all steps so far have the same
words, on the same layers; the words of COPY and ADD hold a digest of what was copied. Where the words leave something out that
counts (what mounts show, modes, heredocs) nothing is taken over.
"""

from __future__ import annotations

from collections.abc import Iterable

from boxship.build.graph import AnyOperation, Copy, MakeDirectory, Run
from boxship.images.model import Image
from boxship.spec.oci import History, ImageConfig


def tells_all(operation: AnyOperation) -> bool:
    """Return whether the words of history say all that an operation's result depends on."""
    match operation:
        case Run():
            plain = operation.network == "default" and operation.security == "sandbox" and not operation.devices
            return plain and not operation.mounts
        case Copy():
            return not (operation.chmod or operation.link or operation.parents or operation.exclude)
    return isinstance(operation, MakeDirectory)


def adopt(
    images: Iterable[Image], below: ImageConfig, base: tuple[str, ...], created_by: str
) -> tuple[tuple[str, ...], History, Image] | None:
    """Return the layers that a step gives according to one of the images, its entry there and the image; None if none has it.

    ``below`` is the configuration before the step, ``base`` its layers.
    """
    said = [entry.created_by for entry in below.history or ()]
    for image in images:
        history = image.image_config.history or []
        if len(history) <= len(said) or tuple(image.layers[: len(base)]) != base:
            continue
        entry = history[len(said)]
        if [before.created_by for before in history[: len(said)]] != said or entry.created_by != created_by:
            continue
        if entry.empty_layer:
            return base, entry, image
        if len(image.layers) > len(base):
            return (*base, image.layers[len(base)]), entry, image
    return None
