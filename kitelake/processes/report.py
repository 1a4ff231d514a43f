"""The report process: a child, started by the service once the day's hours are over.

Settings come as one line of JSON on standard input; the report goes to standard output as another. It ends at once when
its standard input ends, which is how it learns that the service has died. Exit status 1: there is no report, and the
log says why.
"""

import datetime as dt
import json
import sys
from pathlib import Path

import structlog

from kitelake.processes.child import begin, end_at_once
from kitelake.report import make_report, read_record, record_path
from kitelake.telemetry import configure_logs
from storage.errors import KitelakeError

_NICENESS = 10  # the sockets come first, then the writer


def main() -> None:
    """Make the report of the day that the settings name."""
    settings = json.loads(begin(niceness=_NICENESS, ended=end_at_once))
    configure_logs(settings["log_level"], settings["log_format"])
    data, date = Path(settings["data"]), dt.date.fromisoformat(settings["date"])
    log = structlog.get_logger()
    try:
        record = read_record(data, date)
        if record is None:
            log.error("there is no report without a record of the day", path=str(record_path(data, date)))
            sys.exit(1)
        report = make_report(data, record)
    except KitelakeError as error:
        log.error("the report of the day cannot be made", date=date.isoformat(), error=str(error))
        sys.exit(1)
    print(report.model_dump_json(), flush=True)  # noqa: T201 (this is the protocol)


if __name__ == "__main__":
    main()
