from .find import Found as Found
from .latest import last_rows_sql as last_rows_sql
from .methods import AsofMethods as AsofMethods
