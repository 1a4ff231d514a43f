from .account_set import AccountSet as AccountSet
from .checks import Verdict as Verdict
from .checks import check_tokens as check_tokens
from .checks import token_problem as token_problem
from .login import log_in as log_in
from .logins import account_of as account_of
