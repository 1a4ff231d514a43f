"""Many sockets as one: placement within the broker's limits, and what moves when an account is lost."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
