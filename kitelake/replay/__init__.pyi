from .clients import connect as connect
from .console import Replay as Replay
from .control import ReplaySettings as ReplaySettings
