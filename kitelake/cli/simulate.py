"""`kitelake simulate`: the simulated market by itself."""

from typing import Annotated

import typer

from kitelake.errors import StartError


def simulate(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="WebSocket port; 0 takes a free one.")] = 8765,
    api_port: Annotated[int, typer.Option(min=0, max=65_535, help="REST port; 0 takes a free one.")] = 8766,
    instruments: Annotated[int, typer.Option(min=100, max=100_000, help="Size of the market.")] = 10_000,
    rate: Annotated[float, typer.Option(min=0.01, max=100, help="Activity: 2 ticks twice as often.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same market.")] = 1,
    accounts: Annotated[int, typer.Option(min=1, max=100, help="How many accounts may connect.")] = 2,
) -> None:
    """Run a simulated market that speaks Kite's streaming protocol on this machine, until Ctrl-C.

    For tests of any client: point its WebSocket and REST addresses here. A JSON file gives it more settings:
    `python -m ingest.simulator --config FILE`.
    """
    from ingest.errors import ServerError
    from ingest.simulator import SimulatorSettings
    from ingest.simulator import simulate as simulate_market

    known = [
        {"name": f"account-{n}", "api_key": f"simulated-key-{n}", "access_token": f"simulated-token-{n}"}
        for n in range(1, accounts + 1)
    ]
    settings = {"port": port, "api_port": api_port, "instruments": instruments, "rate": rate, "seed": seed}

    def ready(urls: dict[str, str]) -> None:
        typer.echo(f"WebSocket  {urls['ws']}\nREST       {urls['api']}\nfaults     {urls['control']}/faults")
        for account in known:
            typer.echo(f"api_key    {account['api_key']}  access_token {account['access_token']}")
        typer.echo(
            f'for example: KiteTicker("{known[0]["api_key"]}", "{known[0]["access_token"]}", root="{urls["ws"]}")'
        )
        typer.echo("Ctrl-C ends it.")

    try:
        stats = simulate_market(SimulatorSettings.parse({"accounts": known, **settings}), ready=ready)
    except ServerError as error:
        raise StartError(str(error)) from None
    typer.echo(f"{stats['packets']:,} packets sent")
