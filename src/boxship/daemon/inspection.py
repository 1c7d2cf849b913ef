"""The look at all metadata before anything uses it: one damaged object must not keep the engine from starting."""

from __future__ import annotations

import logging

from boxship.build.caching.cache import RECORD, decode_record
from boxship.build.steps.cache_mounts import MOUNT, decode_mount
from boxship.engine.model import SPEC_KIND, STATUS_KIND
from boxship.engine.rows import decode_spec, decode_status
from boxship.images import indexes
from boxship.images.model import IMAGE, LAYER, check_image, decode_layer
from boxship.store import Store, quarantine

log = logging.getLogger(__name__)

CHECKS: dict[str, quarantine.Check] = {
    IMAGE: check_image,
    LAYER: lambda _, document: decode_layer(document),
    indexes.INDEX: lambda _, document: indexes.decode_index(document),
    SPEC_KIND: decode_spec,
    STATUS_KIND: decode_status,
    RECORD: lambda _, document: decode_record(document),
    MOUNT: lambda _, document: decode_mount(document),
}


def inspect(store: Store) -> quarantine.Inspected:
    """Correct or set aside damaged objects and say so in the log. Raises SystemFailure."""
    result = quarantine.inspect(store, CHECKS)
    for kind, id in result.corrected:
        log.warning("the database had a flipped bit in %s %s, which was put right", kind, id)
    for row in result.aside:
        held = f" (it held the names {', '.join(row.names)})" if row.names else ""
        log.error(
            "%s %s is damaged and was set aside: %s%s; see boxship system fsck", row.kind, row.id, row.reason, held
        )
    return result
