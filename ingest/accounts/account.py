"""Who we are to the broker: an `Account`, which prints none of its secrets."""

from dataclasses import dataclass, field

from pydantic import SecretStr

from ingest.accounts.redact import Redactor
from ingest.accounts.sources import Token, TokenSource


@dataclass(frozen=True, init=False)
class Account:
    """One Kite Connect app of one user: what a connection or a REST call needs to prove who it is.

    `name` is ours: it stands in the `account` column of every row. `access_token` is the day's token, or where to get
    it: a `Path` (a file that only its owner can read) or a function, see `TokenSource`. A source is asked again when
    the broker refuses what it gave last. `access_token` is empty as long as there is none. `api_secret` is needed for
    the day's login only.

    Raises ValueError without a name or an api_key.
    """

    name: str
    api_key: str = field(repr=False)
    access_token: SecretStr = field(hash=False)
    api_secret: SecretStr | None
    token_source: TokenSource | None = field(repr=False)
    _redactor: Redactor = field(repr=False, compare=False)

    def __init__(
        self,
        name: str,
        api_key: str,
        access_token: Token | TokenSource = "",
        api_secret: Token | None = None,
    ) -> None:
        if not name or not api_key:
            raise ValueError(f"got account name {name!r} and an api_key of {len(api_key)} characters, expected both")
        token, source = (access_token, None) if isinstance(access_token, str | SecretStr) else ("", access_token)
        secret = SecretStr(api_secret) if isinstance(api_secret, str) else api_secret
        given = {"name": name, "api_key": api_key, "api_secret": secret, "token_source": source}
        for slot, value in (given | {"_redactor": Redactor([secret] if secret else [])}).items():
            object.__setattr__(self, slot, value)
        self.replace_token(token)

    def replace_token(self, token: Token) -> None:
        """Use this access token from now on: for the next handshake and the next REST call."""
        token = SecretStr(token) if isinstance(token, str) else token
        self._redactor.learn(token)
        object.__setattr__(self, "access_token", token)

    def redactor(self) -> Redactor:
        """The one redactor for the secrets of this account, past tokens too; it learns of a new token with it."""
        return self._redactor
