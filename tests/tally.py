"""Sums up the reports of tests/suite: `tally.py RESULTS EXPECTED_SKIPS`.

RESULTS has one folder for each time that the suite ran, with TAP files (bats) and JUnit XML
files (pytest), and the file `left-behind`. EXPECTED_SKIPS has one regular expression a line
(`#` starts a comment); a skip whose reason matches none of them counts as a failure. Exits 1
if anything failed.
"""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple


class Result(NamedTuple):
    """One test: `outcome` is passed, failed or skipped; `reason` says why it was skipped."""

    name: str
    outcome: str
    reason: str = ""


def read_tap(path: Path) -> list[Result]:
    """Reads bats' TAP; a report with fewer tests than its plan has one failure more."""
    text = path.read_text(errors="replace")
    results = []
    for verdict, name in re.findall(r"^(ok|not ok) \d+ (.*)$", text, re.MULTILINE):
        name, skipped, reason = name.partition(" # skip")
        name = re.sub(r" in \d+ms$", "", name)
        outcome = "failed" if verdict == "not ok" else "skipped" if skipped else "passed"
        results.append(Result(f"{path.stem}: {name}", outcome, reason.strip()))
    plan = re.search(r"^1\.\.(\d+)$", text, re.MULTILINE)
    ended = re.search(r"^# ended with (\d+)$", text, re.MULTILINE)
    if plan is None or int(plan[1]) != len(results):
        results.append(Result(f"{path.stem}: the report is cut short", "failed"))
    elif ended and not any(result.outcome == "failed" for result in results):
        results.append(Result(f"{path.stem}: bats ended with {ended[1]}", "failed"))
    return results


def read_junit(path: Path) -> list[Result]:
    """Reads pytest's JUnit XML; an error of a fixture or an import is a failure."""
    results = []
    try:
        cases = list(ElementTree.parse(path).iter("testcase"))
    except ElementTree.ParseError:
        return [Result(f"{path.stem}: the report is cut short", "failed")]
    for case in cases:
        name = f"{case.get('classname')}: {case.get('name')}"
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            results.append(Result(name, "failed"))
        elif skip is not None:
            results.append(Result(name, "skipped", skip.get("message") or ""))
        else:
            results.append(Result(name, "passed"))
    return results


def read_run(folder: Path) -> list[Result]:
    """Reads one run of the suite; a report without a single test is a failure."""
    readers = {".tap": read_tap, ".xml": read_junit}
    results = []
    for path in sorted(folder.iterdir()):
        read = readers[path.suffix](path)
        results += read or [Result(f"{path.stem}: ran no test", "failed")]
    return results


def main() -> int:
    """Prints what failed, each unexpected skip, and the sums."""
    results_folder, expected_file = Path(sys.argv[1]), Path(sys.argv[2])
    lines = expected_file.read_text().splitlines()
    expected = [re.compile(line) for line in lines if line and not line.startswith("#")]
    total = dict.fromkeys(("passed", "failed", "skipped"), 0)
    for folder in sorted(path for path in results_folder.iterdir() if path.is_dir()):
        for result in read_run(folder):
            outcome = result.outcome
            if outcome == "skipped" and not any(pattern.search(result.reason) for pattern in expected):
                outcome = "failed"
                print(f"UNEXPECTED SKIP ({folder.name}) {result.name}: {result.reason}")
            elif outcome == "failed":
                print(f"FAILED ({folder.name}) {result.name}")
            elif outcome == "skipped":
                print(f"skipped ({folder.name}) {result.name}: {result.reason}")
            total[outcome] += 1
    left = (results_folder / "left-behind").read_text()
    if left:
        print(f"LEFT BEHIND:\n{left}")
        total["failed"] += 1
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**total))
    return 1 if total["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
