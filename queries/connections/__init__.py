"""Which connection listened to what and when, by the events of their lives; and how late its packets came."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
