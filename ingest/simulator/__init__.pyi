from .market import Market as Market
from .run import simulate as simulate
from .simulator import Simulator as Simulator
from .simulator import SimulatorSettings as SimulatorSettings
from .universe import build_universe as build_universe
from .universe import to_csv as to_csv
