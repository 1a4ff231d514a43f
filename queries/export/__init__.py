"""What was captured, written out for those who have no lake: Parquet, CSV, or one DuckDB file."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
