"""The command line. What a user may have got wrong ends with one clear message and exit status 2."""

import signal
import sys
import traceback
from typing import Annotated, NoReturn, TextIO, cast

try:
    import typer

    from kitelake.cli.capture import capture, demo, init, login, run, simulate
    from kitelake.cli.inspect import check, compare, coverage, gaps, latency, plan, report, status
    from kitelake.cli.lookup import bars, book, chain, find, latest, sql
    from kitelake.cli.maintenance import MAINTENANCE, OLD_NAMES
    from kitelake.cli.options import PlotCommand
    from kitelake.cli.replay import ALLOWED, replay
    from kitelake.errors import AskError, ConfigError, OutputError, StartError
    from kitelake.shell import INTERRUPTED
    from storage.errors import DataFolderError, KitelakeError
    from storage.startup import leave_out_needless
except KeyboardInterrupt:
    sys.exit(128 + signal.SIGINT)  # INTERRUPTED, whose import may have been interrupted

app = typer.Typer(
    name="kitelake",
    help="Captures every tick of your Kite Connect accounts, loses nothing, and serves it as SQL over Parquet.",
    epilog="First steps: `kitelake demo` shows everything on a simulated market in half a minute. "
    "`kitelake init` writes a config.yaml whose comments say what to change for a real account.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)


def main() -> NoReturn:
    """The `kitelake` command."""
    leave_out_needless()
    # In a terminal that knows fewer characters, a `?` is better than an end.
    if (output := cast("TextIO | None", sys.stdout)) is not None and hasattr(output, "reconfigure"):
        output.reconfigure(errors="replace")
    status = run_command()
    # From here on Ctrl-C ends it at once: Python would say where it was.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(status)


def run_command() -> int:
    """Run the command that the arguments of the process name, and say what went wrong. Returns its exit status."""
    try:
        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except KitelakeError as error:
        typer.echo(f"kitelake: {error}", err=True)
        return 2 if isinstance(error, AskError | ConfigError | DataFolderError | OutputError | StartError) else 1
    except Exception:
        # Said here, and let go: what is kept until Python ends, DuckDB's binding complains about in many lines.
        traceback.print_exc()
        return 1
    return 0


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        from kitelake.version import __version__

        typer.echo(f"kitelake {__version__}")
        raise typer.Exit


for command in (init, run, demo, simulate, capture, plan, check, status, report, login):
    app.command()(command)
app.command(context_settings=ALLOWED)(replay)
for question in (sql, bars, book, latest, chain, find, coverage, gaps, latency, compare):
    app.command(rich_help_panel="Queries", cls=PlotCommand)(question)
for command_name, maintain in MAINTENANCE.items():
    app.command(command_name)(maintain)
for command_name, maintain in OLD_NAMES.items():
    app.command(command_name, hidden=True)(maintain)
