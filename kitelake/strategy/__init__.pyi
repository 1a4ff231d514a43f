from .guard import API_VARIABLE as API_VARIABLE
from .guard import LOGIN_PATH as LOGIN_PATH
from .guard import WS_VARIABLE as WS_VARIABLE
from .launch import exit_status as exit_status
from .launch import start_strategy as start_strategy
from .roots import local_root as local_root
