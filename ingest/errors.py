"""Every error that ingest raises on purpose. Each says what was got and what was expected, and none carries a secret."""

from storage.errors import KitelakeError


class IngestError(KitelakeError):
    """Something between the broker and the journal, or in the broker's bytes, is not as it must be."""


class WireError(IngestError):
    """Values cannot be written as Kite packets. (Decoding never raises this: what will not decode is quarantined.)"""
