"""What becomes of it later: small files are compacted, segments archived, old days removed."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
