from .clients import connect as connect
from .console import Replay as Replay
from .settings import ReplaySettings as ReplaySettings
