"""The report of a day, made in a process of its own: a heavy query can neither slow capture down nor end it."""

import datetime as dt
from pathlib import Path

from kitelake.config import Config
from kitelake.errors import ReportError, StartError
from kitelake.processes.child import Child
from kitelake.report import Report


async def make_report_apart(data: Path, date: dt.date, config: Config) -> Report:
    """The report of that day. Raises ReportError if the process fails; its own message is in the log above."""
    settings = {
        "data": str(data),
        "date": date.isoformat(),
        "log_level": config.log.level,
        "log_format": config.log.format,
    }
    try:
        child = await Child.start("kitelake.processes.report", settings, hide=config.secrets())
    except StartError as error:
        raise ReportError(f"the report of {date} could not be made: {error}") from None
    try:
        line = await anext(child.lines(), None)
        status = await child.wait()
    finally:
        await child.stop()
    if line is None or status != 0:
        raise ReportError(f"the report of {date} could not be made: its process ended with status {status}")
    return Report.model_validate(line)
