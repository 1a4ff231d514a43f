from .clients import connect as connect
from .launch import exit_status as exit_status
from .launch import start_strategy as start_strategy
