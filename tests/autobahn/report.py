"""Judges the results of the suite, more strictly than the suite's own report.

    python3 report.py [--all] spec PATH server|client URL
    python3 report.py [--all] judge [--server RUN] [--client RUN] [--write-results FILE]

A run is a folder with `wstest.log` and `reports/index.json`. Every planned case needs a result, with
behaviour and closing OK, and with a close code from our side.
"""

import argparse
import ast
import json
import sys
from pathlib import Path

AGENT = "tower-websocket"
WHOLE_SUITE = 517

# The suite accepts any result of these cases.
INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}

# The suite's Close has no code here, and the answer repeats it (RFC 6455 §5.5.1).
WITHOUT_CODE = {"7.3.1"}


class Case:
    """One case of a run, from the suite's index and its report."""

    def __init__(self, name, index, detail):
        self.name = name
        self.behavior = index["behavior"]
        self.close = index["behaviorClose"]
        self.code = index["remoteCloseCode"]
        self.detail = detail

    def faults(self):
        """Returns the faults of the case as texts."""
        wanted = "INFORMATIONAL" if self.name in INFORMATIONAL else "OK"
        faults = []
        if self.behavior != wanted:
            faults.append(f"{self.behavior}: {self.detail['result']}")
        if self.close != wanted:
            faults.append(f"closing {self.close}: {self.detail['resultClose']}")
        if self.code is None and self.name not in WITHOUT_CODE:
            faults.append("no close code from our side")
        if not self.detail["wasClean"]:
            faults.append(f"closed uncleanly: {self.detail['wasNotCleanReason']}")
        return faults

    def cells(self):
        return [self.behavior, self.close, "none" if self.code is None else str(self.code)]


def order(name):
    return [int(part) for part in name.split(".")]


def planned(run):
    """Returns the cases that the suite has planned, or none if it failed before."""
    try:
        log = (run / "wstest.log").read_text(errors="replace")
    except OSError:
        return []
    for line in log.splitlines():
        if line.startswith("Cases = "):
            return ast.literal_eval(line.removeprefix("Cases = "))
    return []


def recorded(run):
    """Returns the cases of a run by name, or none if the report is missing."""
    reports = run / "reports"
    try:
        index = json.loads((reports / "index.json").read_text())[AGENT]
    except (OSError, KeyError):
        return {}
    return {
        name: Case(name, entry, json.loads((reports / entry["reportfile"]).read_text()))
        for name, entry in index.items()
    }


def judge(side, run, whole):
    """Prints the failures and a summary. Returns the cases, and whether all have passed."""
    names, cases = planned(run), recorded(run)
    faults = {name: found for name, case in cases.items() if (found := case.faults())}
    for name in sorted(faults, key=order):
        print(f"{side}: {name}: {'; '.join(faults[name])}")
    missing = [name for name in names if name not in cases]
    if missing:
        print(f"{side}: without a result: {' '.join(missing)}")

    passed = cases.keys() - faults.keys()
    informational = len(passed & INFORMATIONAL)
    print(
        f"{side}: {len(names)} cases: {len(passed) - informational} OK, "
        f"{informational} informational, {len(faults)} failed, {len(missing)} without a result"
    )
    well = bool(names) and not faults and not missing
    if whole and len(names) != WHOLE_SUITE:
        print(f"{side}: the whole suite has {WHOLE_SUITE} cases, but {len(names)} were planned")
        well = False
    return cases, well


def table(server, client):
    """Returns the results of a whole run. Durations are left out, because they change every time."""
    lines = [
        "# Results",
        "",
        f"The whole suite, {WHOLE_SUITE} cases, against `examples/conformance` as the server and",
        "`examples/conformance_client` as the client. Written by `tests/autobahn/run --all",
        "--write-results`. [README.md](README.md) defines OK. The code is the close code of our Close",
        "frame.",
        "",
        "| Case | Server | Closing | Code | Client | Closing | Code |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in sorted(server, key=order):
        lines.append(f"| {' | '.join([name, *server[name].cells(), *client[name].cells()])} |")
    return "\n".join(lines) + "\n"


def spec(path, side, url, whole):
    """Writes the suite's specification of a run. The reports go into the same folder."""
    here = Path(__file__).parent
    lines = (here / "subset.txt").read_text().splitlines()
    subset = [line for line in lines if line and not line.startswith("#")]
    content = {
        "outdir": str(path.parent / "reports"),
        "cases": ["*"] if whole else subset,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    if side == "server":
        content["servers"] = [{"agent": AGENT, "url": url}]
    else:
        content["url"] = url
    path.write_text(json.dumps(content, indent=2))


def main():
    parser = argparse.ArgumentParser(description="Specifies and judges runs of the suite.")
    parser.add_argument("--all", action="store_true", help="the whole suite instead of the subset")
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("spec", help="write the specification of a run")
    writing.add_argument("path", type=Path)
    writing.add_argument("side", choices=["server", "client"], help="our side")
    writing.add_argument("url")
    judging = commands.add_parser("judge", help="judge finished runs")
    judging.add_argument("--server", type=Path, metavar="RUN")
    judging.add_argument("--client", type=Path, metavar="RUN")
    judging.add_argument("--write-results", type=Path, metavar="FILE")
    arguments = parser.parse_args()

    if arguments.command == "spec":
        spec(arguments.path, arguments.side, arguments.url, arguments.all)
        return True
    runs = {"server": arguments.server, "client": arguments.client}
    results = {side: judge(side, run, arguments.all) for side, run in runs.items() if run}
    well = all(well for _, well in results.values())
    if arguments.write_results and all(len(cases) == WHOLE_SUITE for cases, _ in results.values()):
        text = table(results["server"][0], results["client"][0])
        arguments.write_results.write_text(text)
    return well


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
