from .market import Market as Market
from .orders import OrderBook as OrderBook
from .run import simulate as simulate
from .universe import build_universe as build_universe
from .universe import to_csv as to_csv
