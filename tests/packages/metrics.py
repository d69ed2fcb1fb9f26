#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""metrics.py names: alert rules and dashboard name only metrics, and only phases, that the engine has.
metrics.py rules: the dashboard's queries as a file of rules, for promtool to parse."""
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parents[2]
PACKAGING = ROOT / "engine/packaging"
FILES = [PACKAGING / "prometheus/towline.rules.yml", PACKAGING / "prometheus/towline.rules.test.yml",
         PACKAGING / "grafana/towline.json"]


def exposed():
    text = (ROOT / "engine/http/metrics.c").read_text()
    return ({"towline_" + name for name in re.findall(r'\bput\(\s*&?metrics, "(\w+)"', text)} |
            set(re.findall(r"# TYPE (towline_\w+) ", text)))


def phases():
    table = re.findall(r'\[TOW_PHASE_\w+\] = \{"([a-z-]+)"', (ROOT / "engine/job/phases.c").read_text())
    return set(table)


def queries():
    board = json.loads(FILES[2].read_text())
    return ([target["expr"] for panel in board["panels"] for target in panel["targets"]] +
            [variable["definition"] for variable in board["templating"]["list"] if "definition" in variable])


def names():
    has, problems = exposed(), []
    if len(has) < 20 or len(phases()) < 10:
        sys.exit("only %d metrics and %d phases were found: the check is broken" % (len(has), len(phases())))
    for path in FILES:
        text = path.read_text()
        used = set(re.findall(r"\btowline_[a-z_]+\b", text))
        problems += ["%s: there is no metric %s" % (path.name, name) for name in sorted(used - has)]
        problems += ["%s: there is no phase %s" % (path.name, name)
                     for name in sorted(set(re.findall(r'\bphase="([\w-]+)"', text)) - phases())]
        if not used:
            problems.append("%s names no metric: the check is broken" % path.name)
    sys.exit("\n".join(problems) or 0)


def rules():
    print("groups:\n  - name: dashboard\n    rules:")
    for number, query in enumerate(query for query in queries() if not query.startswith("label_values")):
        query = query.replace("$__rate_interval", "5m").replace("$instance", ".*").replace("$migration", ".*")
        print("      - {record: 'dashboard:%d', expr: '%s'}" % (number, query))


{"names": names, "rules": rules}[sys.argv[1]]()
