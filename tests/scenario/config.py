#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""config.py: file, environment and command line, in rising precedence; the effective configuration
without secrets; a job from mongosync's file; completion and manual page name every option."""
import os
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

from job import EXIT, free_port, towline
from scenario import Scenario

SECRET = "hunter2"


def write(scenario, text):
    path = os.path.join(scenario.folder(), "towline.yaml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, 0o600)  # it may hold passwords
    return path


def shown(scenario, *words, **environment):
    done = towline("config", *words, environment=environment)
    scenario.expect(done.returncode == 0, done.stderr)
    scenario.expect(SECRET not in done.stdout + done.stderr, "the password is printed")
    return done.stdout


def precedence(scenario):
    path = write(scenario, "source: mongodb://u:%s@file/\nworkers: 2\nmemory: 64\nrange-size: 8\n"
                 "include: [a, b]\n" % SECRET)
    with scenario.case("the file is read, and the rest is the default"):
        text = shown(scenario, "--config", path)
        for line in ('source: "mongodb://***@file/"', "workers: 2", 'window: "120h"  # default',
                     '  - "a"\n  - "b"'):
            scenario.expect(line + "\n" in text, "no %r in %s" % (line, text))
    with scenario.case("the environment wins over the file, the command line over both"):
        text = shown(scenario, "--config=" + path, "--memory", "128", "--include", "d",
                     TOWLINE_WORKERS="3", TOWLINE_MEMORY="99", TOWLINE_INCLUDE="c,cc",
                     TOWLINE_SOURCE="mongodb://u:%s@environment/" % SECRET)
        for line in ('source: "mongodb://***@environment/"', "workers: 3", "memory: 128",
                     "range-size: 8", 'include:\n  - "d"\nworkers'):
            scenario.expect(line in text, "no %r in %s" % (line, text))
    with scenario.case("the environment names the file, the command line another"):
        other = write(scenario, "workers: 7\n")
        scenario.expect("workers: 2\n" in shown(scenario, TOWLINE_CONFIG=path), "not read")
        text = shown(scenario, "--config", other, TOWLINE_CONFIG=path)
        scenario.expect("workers: 7\n" in text and "file/" not in text, text)
    with scenario.case("what config prints is a file for --config"):
        again = write(scenario, shown(scenario, "--config", path, "--window", "7h"))
        text = shown(scenario, "--config", again)
        scenario.expect("workers: 2\n" in text and 'window: "7h"\n' in text, text)
    with scenario.case("a mistake ends with file and line, for every verb"):
        bad = write(scenario, "source: mongodb://u:%s@h/\nwrokers: 4\n" % SECRET)
        for verb in ("run", "check", "plan", "verify", "config", "status"):
            done = towline(verb, "--config", bad)
            scenario.expect(done.returncode == EXIT["option"] and bad + ":2: " in done.stderr and
                            "wrokers" in done.stderr, "%s: %s" % (verb, done.stderr))
            scenario.expect(SECRET not in done.stdout + done.stderr, "the password is printed")
    with scenario.case("a file that another user owns or may write is refused, for every verb"):
        theirs = write(scenario, "on-phase: id\n")
        os.chmod(theirs, 0o666)
        for verb in ("run", "check", "verify", "status"):
            for words, environment in ((["--config", theirs], None), ([], {"TOWLINE_CONFIG": theirs})):
                done = towline(verb, *words, environment=environment)
                scenario.expect(done.returncode == EXIT["option"] and "chmod go-w " + theirs in done.stderr, done.stderr)
        if os.geteuid() == 0:
            os.chmod(theirs, 0o644)
            os.chown(theirs, 65534, 65534)
            done = towline("run", "--config", theirs)
            scenario.expect(done.returncode == EXIT["option"] and "another user (uid 65534)" in done.stderr, done.stderr)
    with scenario.case("a file that does not exist is named"):
        done = towline("run", "--config", "/no/such/file")
        scenario.expect(done.returncode == EXIT["option"] and "/no/such/file" in done.stderr,
                        done.stderr)


def mongosync(scenario, pair):
    pair.source.client["shop"]["orders"].insert_many([{"_id": n} for n in range(100)])
    logs = scenario.folder()
    path = write(scenario, "cluster0: %s\ncluster1: %s\nlogPath: %s\nverbosity: DEBUG\nport: %d\n"
                 "loadLevel: 2\n" % (pair.source.uri, pair.destination.uri, logs, free_port()))
    with scenario.case("a job from mongosync's file"):
        done = towline("run", "--config", path, "--progress", "none", "--cutover", "auto",
                       "--spool", os.path.join(logs, "spool"))
        scenario.expect(done.returncode == 0, done.stderr)
        scenario.expect_equal(pair)
        scenario.expect(not done.stderr, "on stderr: %s" % done.stderr)
        with open(os.path.join(logs, "towline.log"), encoding="utf-8") as file:
            log = file.read()
        scenario.expect("phase: done" in log, log[-300:])
    with scenario.case("a log folder that does not exist"):
        done = towline("run", "--config", path, "--log-path", "/no/such/folder")
        scenario.expect(done.returncode == EXIT["option"] and "/no/such/folder" in done.stderr,
                        done.stderr)


def reference(scenario):
    table = towline("help", "--markdown").stdout
    options = re.findall(r"^\| `--([a-z-]+)", table, re.M)
    verbs = re.findall(r"^  ([a-z]+) +\S", towline("--help").stdout, re.M)
    scenario.expect(len(options) > 20 and len(verbs) > 8, "%s %s" % (options, verbs))
    with scenario.case("the manual page names every verb and option"):
        done = towline("man")
        page = done.stdout.replace("\\-", "-")
        missing = [name for name in options if "\n.B --%s" % name not in page] + \
                  [name for name in verbs if "\n.B %s\n" % name not in page]
        scenario.expect(done.returncode == 0 and not missing, "missing: %s" % missing)
    with scenario.case("bash completes verbs, options and choices"):
        script = towline("completion", "bash").stdout

        def complete(*words):
            done = subprocess.run(
                ["bash", "-c", script + '\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _towline; '
                 'echo "${COMPREPLY[@]}"', "-", *words], capture_output=True, text=True, timeout=20)
            scenario.expect(done.returncode == 0 and not done.stderr, done.stderr)
            return done.stdout.split()

        scenario.expect(sorted(complete("towline", "")) == sorted(verbs), complete("towline", ""))
        scenario.expect(complete("towline", "veri") == ["verify"], complete("towline", "veri"))
        scenario.expect(complete("towline", "run", "--cutover", "m") == ["manual"],
                        complete("towline", "run", "--cutover", "m"))
        found = complete("towline", "run", "--wo")
        scenario.expect(found == ["--workers"], found)
        scenario.expect("--workers" not in complete("towline", "status", "--"), "status has --workers")
    with scenario.case("zsh's script is bash's, loaded"):
        text = towline("completion", "zsh").stdout
        scenario.expect(text.startswith("#compdef towline\n") and script in text, text[:200])
        scenario.expect(towline("completion").returncode == EXIT["option"], "no shell was taken")
        scenario.expect(towline("completion", "fish").returncode == EXIT["option"], "fish was taken")


def conventions(scenario):
    """What every program of its kind understands."""
    version = towline("--version").stdout
    with scenario.case("the version has three names"):
        scenario.expect(re.fullmatch(r"towline \d+\.\d+\.\d+\S*\n", version), version)
        for word in ("-V", "version"):
            done = towline(word)
            scenario.expect((done.returncode, done.stdout) == (0, version), "%s: %s" % (word, done.stdout))
    with scenario.case("help VERB is VERB --help"):
        for verb in ("run", "check", "version"):
            done = towline("help", verb)
            scenario.expect(done.returncode == 0 and done.stdout == towline(verb, "--help").stdout, done.stdout)
        scenario.expect(towline("help", "help").stdout == towline("--help").stdout, "help help")
        done = towline("help", "rnu")
        scenario.expect(done.returncode == EXIT["option"] and "towline run?" in done.stderr, done.stderr)
    with scenario.case("a misspelt verb is understood, another is not guessed at"):
        for word, meant in (("chek", "check"), ("stauts", "status"), ("cut-over", "cutover"), ("verfy", "verify")):
            done = towline(word)
            scenario.expect(done.returncode == EXIT["option"] and not done.stdout and
                            "unknown verb '%s'; did you mean towline %s?" % (word, meant) in done.stderr, done.stderr)
        for word in ("frobnicate", "compute", "rx"):
            done = towline(word)
            scenario.expect(done.returncode == EXIT["option"] and "did you mean" not in done.stderr and
                            "see towline --help" in done.stderr, done.stderr)
    nowhere = ["--source", "mongodb://127.0.0.1:%d/?serverSelectionTimeoutMS=300" % free_port(), "--destination",
               "mongodb://127.0.0.1:%d/?serverSelectionTimeoutMS=300" % free_port()]
    with scenario.case("-q: a failure is one line, and nothing else is said"):
        for words in (["run", "--listen", "none", "--cutover", "auto"], ["check"], ["plan"], ["verify"]):
            for quiet in ("-q", "--quiet"):
                done = towline(*words, quiet, *nowhere)
                scenario.expect(done.returncode == EXIT["unreachable"] and not done.stdout, done.stdout)
                lines = [line for line in done.stderr.splitlines() if "warning" not in line.lower()]
                scenario.expect(len(lines) == 1 and lines[0].startswith("towline: "), done.stderr)
        done = towline("check", "-q", "--json", *nowhere)
        scenario.expect('"checks"' in done.stdout, "JSON that was asked for is missing: " + done.stdout)
        done = towline("run", "-q", "--log-level", "info", "--listen", "none", "--cutover", "auto", *nowhere)
        scenario.expect(" info " in done.stderr, "a level that was asked for is not heeded: " + done.stderr)


def main():
    with Scenario(__doc__) as scenario:
        conventions(scenario)
        precedence(scenario)
        mongosync(scenario, scenario.pair())
        reference(scenario)


if __name__ == "__main__":
    main()
