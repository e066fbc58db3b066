"""`make audit`: known vulnerabilities of the installed packages, asked of osv.dev in one request.

Ends with 1 if one is known, and with 2 if nobody could be asked, as without a network.
"""

import argparse
import json
import re
import sys
import urllib.request
from importlib.metadata import distributions

OSV = "https://api.osv.dev/v1/querybatch"
MOST = 1000
"""Packages of one request."""


def installed() -> dict[str, str]:
    """The versions of the installed packages by name, as PyPI writes both."""
    found = ((d.metadata["Name"], d.version) for d in distributions())
    names = {re.sub(r"[-_.]+", "-", name).lower(): v.partition("+")[0] for name, v in found if name}
    return dict(sorted(names.items()))


def known(packages: dict[str, str], url: str) -> dict[str, list[str]]:
    """The names of what is known of every package. Raises OSError or ValueError."""
    found: dict[str, list[str]] = {}
    names = list(packages)
    for start in range(0, len(names), MOST):
        part = names[start : start + MOST]
        queries = [
            {"package": {"name": n, "ecosystem": "PyPI"}, "version": packages[n]} for n in part
        ]
        request = urllib.request.Request(url, json.dumps({"queries": queries}).encode())
        with urllib.request.urlopen(request, timeout=60) as reply:
            results = json.load(reply)["results"]
        for name, result in zip(part, results, strict=True):
            found[name] = [v["id"] for v in result.get("vulns", [])]
    return found


def main() -> int:
    """Print a line for every vulnerability, and how many packages were looked at."""
    parser = argparse.ArgumentParser(prog="python -m tests.audit", description=__doc__)
    parser.add_argument("--url", default=OSV, help="who is asked")
    url = parser.parse_args().url
    packages = installed()
    try:
        found = known(packages, url)
    except (OSError, ValueError, KeyError) as problem:
        print(f"audit: could not look: {url} gave no answer ({problem})", file=sys.stderr)
        return 2
    for name, ids in found.items():
        for number in ids:
            print(f"{name} {packages[name]}: https://osv.dev/vulnerability/{number}")
    print(f"{len(found)} packages, {sum(map(len, found.values()))} known vulnerabilities")
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
