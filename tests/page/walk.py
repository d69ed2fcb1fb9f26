#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""walk.py: a whole migration with the page alone, in a real browser, between two real servers, while a
writer writes: bad input first, reload, kill -9 of the server, extension, cutover, and then both equal."""
import http.server
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

from selenium.webdriver.common.keys import Keys

import job
from browser import Browser
from proxy import Proxied
from scenario import Scenario
from writer import Writer

UNREACHABLE = "mongodb://planted:secret-word@127.0.0.1:1/?serverSelectionTimeoutMS=500"
FILLER = 12000  # documents of 2 KB: the copy takes long enough to be looked at

MARKUP = "<i onclick=x>name</i>"  # as a name it is text, wherever it is shown


class Serve:
    """One `towline serve`, which may be killed and started again on the same port and state."""

    def __init__(self, folder, *options):
        self.port, self.options = job.free_port(), options
        self.environment = dict(job.clean_environment(), XDG_STATE_HOME=folder, HOME=folder)
        self.process = self.address = None
        self.output = []
        self.start()

    def start(self):
        words = [job.binary(), "serve", "--listen", "127.0.0.1:%d" % self.port, *self.options]
        if shutil.which("setpriv"):
            words = ["setpriv", "--pdeathsig", "KILL"] + words
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, env=self.environment)
        lines = queue.Queue()
        threading.Thread(target=self._read, args=(self.process.stdout, lines), daemon=True).start()
        self.address = lines.get(timeout=20)
        if self.address is None:
            raise RuntimeError("towline serve printed no address: %s" % "".join(self.output))

    def _read(self, stream, lines):
        for line in stream:
            self.output.append(line)
            if line.startswith("    http://"):
                lines.put(self.ask_address())
        lines.put(None)

    def ask_address(self):
        words = [job.binary(), "page", "--listen", "127.0.0.1:%d" % self.port]
        return subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=30,
                              check=True).stdout.strip()

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(20)

    def close(self):
        if self.process.poll() is None:
            self.kill()


class Impostor(http.server.BaseHTTPRequestHandler):
    """Whoever listens where the server did, answers everything, and keeps what he hears."""
    heard = []

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.heard.append("%s %s%s" % (self.path, self.headers, body.decode()))
        answer = b'{"success": true, "proof": "00"}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET

    def log_message(self, *arguments):
        pass


def start_again(browser, serve):
    """The page is of the process that is gone: it takes the address of the next one, and keeps all else."""
    serve.start()
    browser.wait_screen("token", timeout=30)
    browser.type("token", serve.address + Keys.ENTER)


def expect_look(scenario, browser, name):
    faults = browser.look(name)
    scenario.expect(not faults, "; ".join(faults[:6]))


def first_visit(scenario, browser, serve):
    browser.driver.get(serve.address.split("#")[0])
    with scenario.case("without the token the page asks for it, and shows nothing else"):
        browser.wait_screen("token")
        expect_look(scenario, browser, "token")
    with scenario.case("the user's own token is not for the page"):
        with open(os.path.join(serve.environment["XDG_STATE_HOME"], "towline", "token"), encoding="ascii") as file:
            own = file.read().strip()
        browser.type("token", own + Keys.ENTER)
        scenario.expect("towline page" in browser.text("token-error"), browser.text("token-error"))
        scenario.expect(own not in browser.run("return JSON.stringify({...sessionStorage})"), "the page keeps it")
    with scenario.case("the printed address opens the form, and the token leaves the address bar"):
        browser.driver.get(serve.address)
        browser.driver.refresh()
        browser.wait_screen("setup")
        scenario.expect("#" not in browser.driver.current_url, "token in the address bar")
        browser.wait("the table of options", lambda: browser.visible("option-workers"))
        expect_look(scenario, browser, "setup")


def by_keyboard(scenario, browser, pair):
    """The form from its first field to the list of results, without a mouse."""
    with scenario.case("the form is filled by keyboard alone, in the order that it is read"):
        browser.run("document.activeElement.blur(); window.scrollTo(0, 0)")
        way = browser.tab_to("source")
        browser.keys(UNREACHABLE)
        way += browser.tab_to("destination")
        scenario.expect(browser.has_ring(), "the focus cannot be seen")
        browser.keys(pair.destination.uri)
        for box in ("verify", "clear-destination", "include", "exclude", "option-workers"):
            way += browser.tab_to(box)
            scenario.expect(browser.has_ring(), "the focus cannot be seen on %s" % box)
        browser.keys("2")
        browser.tab_to("validate")
        scenario.expect(browser.node("source").get_property("type") == "password", "shown")
    with scenario.case("an unreachable source is named, with what to do, and there is no way on"):
        browser.keys(Keys.ENTER)
        browser.wait_text("results-summary", "failed")
        browser.wait_text("results-open", "Source connection")
        scenario.expect("What to do:" in browser.text("results-open"), browser.text("results-open"))
        scenario.expect(not browser.enabled("continue"), "Continue is active")
        scenario.expect(browser.focused() == "results-title", "the focus is at " + browser.focused())
        scenario.expect("secret-word" not in browser.shows(), "the password is shown")
        expect_look(scenario, browser, "invalid")


def mistakes(scenario, browser, pair):
    with scenario.case("what is out of range is refused before anything is asked"):
        browser.type("option-workers", "65")
        browser.click("validate")
        browser.wait_text("setup-error", "workers")
        scenario.expect(browser.focused() == "option-workers", browser.focused())
        browser.type("option-workers", "2")
    with scenario.case("Show shows a connection string, and hides it again"):
        show = "document.querySelector('[data-shows=source]')"
        browser.run(show + ".click()")
        scenario.expect(browser.node("source").get_property("type") == "text", "hidden")
        browser.run(show + ".click()")
        scenario.expect(browser.node("source").get_property("type") == "password", "shown")
    with scenario.case("what is in the way on the destination is named"):
        pair.destination.client["shop"]["orders"].insert_one({"_id": "in the way"})
        browser.type("source", pair.source.uri)
        browser.click("validate")
        browser.wait_text("results-open", "shop.orders")
        scenario.expect(not browser.enabled("continue"), "Continue is active")
    with scenario.case("it may be cleared; editing afterwards asks for another validation"):
        browser.click("clear-destination")
        browser.click("validate")
        browser.wait("Continue", lambda: browser.enabled("continue"))
        expect_look(scenario, browser, "valid")
        browser.type("option-job", "walk")
        scenario.expect(not browser.enabled("continue"), "Continue is active")
        browser.click("validate")
        browser.wait("Continue", lambda: browser.enabled("continue"))


def review(scenario, browser, pair):
    with scenario.case("the review shows what would be moved"):
        browser.click("continue")
        browser.wait_screen("review")
        browser.wait("the plan", lambda: browser.enabled("start"))
        figures = browser.pairs("review-figures")
        documents = int(figures["Documents"].replace(",", ""))
        scenario.expect(documents >= FILLER, str(figures))
        scenario.expect("shop." + MARKUP in browser.text("review-collections"), "no collections")
        scenario.expect(browser.pairs("review-options")["workers"].strip() == "2", "workers")
        expect_look(scenario, browser, "review")
    with scenario.case("Back keeps what was entered"):
        browser.click("review-back")
        browser.wait_screen("setup")
        scenario.expect(browser.value("source") == pair.source.uri, "the source is gone")
        browser.click("continue")
        browser.wait("the plan", lambda: browser.enabled("start"))
    with scenario.case("the start is confirmed, with what would be dropped; Escape starts nothing"):
        browser.click("start")
        browser.wait_text("start-drops", "shop.orders")
        expect_look(scenario, browser, "confirm")
        browser.keys(Keys.ESCAPE)
        browser.wait("the dialog's end", lambda: not browser.visible("start-dialog"))
        names = pair.destination.client.list_database_names()
        scenario.expect("towline_walk" not in names, "the job was started")
    browser.click("start")
    browser.click("start-confirm")
    with scenario.case("the migration is shown, with the table of its collections"):
        browser.wait_screen("migrate")
        browser.wait_text("collections", "shop." + MARKUP)
        browser.wait("charts", lambda: browser.run(
            "return document.querySelectorAll('#charts canvas').length === 4"))
        expect_look(scenario, browser, "copying")


def interrupted(scenario, browser, serve, pair):
    with scenario.case("a reload in the middle comes back to the migration"):
        browser.driver.refresh()
        browser.wait_screen("migrate")
        browser.wait("an answer", lambda: browser.text("top-job") == "Job “walk”")
    with scenario.case("while the server is away the page says so, and comes back with the next one's address"):
        browser.note_messages()
        serve.kill()
        browser.wait("the banner", lambda: browser.visible("away"))
        scenario.expect("does not answer" in browser.text("away"), browser.text("away"))
        start_again(browser, serve)
        browser.wait_screen("setup", timeout=30)
        browser.wait("the banner's end", lambda: not browser.visible("away"))
        scenario.expect("started anew" in browser.text("resume-note"), browser.shows())
        expect_look(scenario, browser, "restarted")
    with scenario.case("the same settings go on where it was, and the review says so"):
        browser.type("source", pair.source.uri)
        browser.type("destination", pair.destination.uri)
        browser.type("option-job", "walk")
        browser.click("validate")
        browser.click("continue")
        browser.wait("the plan", lambda: browser.enabled("start"))
        scenario.expect(browser.visible("review-resumes"), browser.shows())
        browser.click("start")
        scenario.expect(not browser.visible("start-drops"), browser.text("start-drops"))
        browser.click("start-confirm")
        browser.wait_screen("migrate")
    with scenario.case("after the next kill -9 one click goes on: the page still knows the settings"):
        browser.wait_text("migrate-title", "In sync")
        serve.kill()
        with http.server.ThreadingHTTPServer(("127.0.0.1", serve.port), Impostor) as other:
            threading.Thread(target=other.serve_forever, daemon=True).start()
            browser.wait_screen("token", timeout=30)
            other.shutdown()
        heard = "".join(Impostor.heard)
        scenario.expect("/proof" in heard and "page-" not in heard and "Bearer" not in heard and "mongodb" not in heard,
                        "who took the port heard " + heard)
        scenario.expect("another process" in browser.text("token-error"), browser.text("token-error"))
        start_again(browser, serve)
        browser.wait("the offer", lambda: browser.visible("resume-note"), timeout=30)
        browser.click("resume")
        browser.wait_screen("migrate")


def in_sync(scenario, browser):
    with scenario.case("in sync: the cutover is possible, and lag and changes are shown"):
        browser.wait("in sync", lambda: browser.enabled("ready"))
        browser.wait("changes", lambda: browser.pairs("change-figures")["Events seen"] not in "0–")
        browser.wait_text("log", "in-sync")
        expect_look(scenario, browser, "in-sync")
    with scenario.case("pause and resume"):
        browser.click("pause")
        browser.wait_text("migrate-title", "Paused")
        scenario.expect(not browser.enabled("ready"), "the cutover is possible")
        scenario.expect("Not possible yet" in browser.text("ready-reason"), "no reason is given")
        browser.wait("Resume", lambda: browser.text("pause") == "Resume")
        browser.click("pause")
        browser.wait_text("migrate-title", "In sync")
    with scenario.case("the window is extended in a dialog, which refuses what is no time"):
        scenario.expect(browser.text("window-left").startswith("4 d 23 h"), browser.text("window-left"))
        browser.click("extend")
        browser.type("extend-duration", "soon")
        browser.keys(Keys.ENTER)
        browser.wait_text("extend-error", "duration")
        expect_look(scenario, browser, "extend")
        browser.type("extend-duration", "24h")
        browser.keys(Keys.ENTER)
        browser.wait("the dialog's end", lambda: not browser.visible("extend-dialog"))
        browser.wait_text("window-left", "5 d 23 h")


def cutover(scenario, browser, writer):
    with scenario.case("cutover, step 1: nothing is finalized before the writes are said to have stopped"):
        browser.click("ready")
        browser.wait_screen("cutover")
        scenario.expect(not browser.enabled("finalize"), "Finalize is active")
        expect_look(scenario, browser, "cutover")
    with scenario.case("a reload forgets the step, as nothing was confirmed"):
        browser.driver.refresh()
        browser.wait_screen("migrate")
        browser.click("ready")
        browser.wait_screen("cutover")
    writer.stop()
    with scenario.case("cutover, steps 2 and 3: finalized, and the page of success"):
        browser.wait("the form", lambda: browser.visible("confirm-stopped"))
        browser.click("confirm-stopped")
        browser.click("finalize")
        browser.wait_screen("done")
        browser.wait("the summary", lambda: browser.pairs("done-figures"))
        expect_look(scenario, browser, "done")


def success(scenario, browser, pair):
    with scenario.case("the page of success has the summary, and the address without credentials"):
        figures = browser.pairs("done-figures")
        scenario.expect(int(figures["Documents"].replace(",", "")) >= FILLER, str(figures))
        scenario.expect("s" in figures["Application downtime"], str(figures))
        scenario.expect("Copy" in browser.pairs("done-phases"), str(browser.pairs("done-phases")))
        scenario.expect(browser.text("done-verification").startswith("Equal"),
                        browser.text("done-verification"))
        scenario.expect(str(pair.destination.port) in browser.value("done-address"),
                        browser.value("done-address"))
        browser.click("done-copy")
        browser.wait("word of it", lambda: browser.text("done-copied"))
    with scenario.case("it is still there after a reload"):
        browser.driver.refresh()
        browser.wait_screen("done")
        browser.wait("the summary", lambda: browser.pairs("done-figures"))
    with scenario.case("both sides are equal"):
        scenario.expect_equal(pair)


def other_ends(scenario, browser, pair):
    """Another job at the same server, which fails, expires and is cancelled."""
    orders = pair.destination.client["shop"]["orders"]
    settings = (("source", pair.source.uri), ("destination", pair.destination.uri),
                ("option-job", "other"), ("option-window", "2s"), ("include", "shop.orders"))
    pair.destination.client.drop_database("shop")
    with scenario.case("what fails after the start is shown with its reason, and the job can go on"):
        browser.click("done-again")
        browser.wait_screen("setup")
        for name, text in settings:
            browser.type(name, text)
        browser.click("validate")
        browser.click("continue")
        browser.wait("the plan", lambda: browser.enabled("start"))
        orders.insert_one({"_id": "in the way since the validation"})
        browser.click("start")
        browser.click("start-confirm")
        browser.wait_screen("ended")
        browser.wait_text("ended-title", "failed")
        browser.wait_text("ended-reason", "shop.orders")
        expect_look(scenario, browser, "failed")
        orders.drop()
        browser.click("ended-continue")
        browser.wait_text("migrate-title", "In sync")
    with scenario.case("a window that is over is shown, and extended, also after a reload"):
        browser.wait_screen("ended")
        browser.wait_text("ended-title", "window is over")
        browser.wait("the summary", lambda: browser.pairs("ended-figures"))
        expect_look(scenario, browser, "expired")
        browser.driver.refresh()
        browser.wait_screen("ended")
        browser.wait_text("ended-title", "window is over")
        browser.type("ended-extend", "1h")
        browser.click("ended-continue")
        browser.wait_screen("setup")
        browser.wait_text("resume-note", "can go on")
        for name, text in settings:
            browser.type(name, text)
        browser.click("validate")
        browser.click("continue")
        browser.wait("the plan", lambda: browser.enabled("start"))
        scenario.expect(browser.pairs("review-options").get("add to the window") == "1h", "not extended")
        browser.click("start")
        browser.click("start-confirm")
        browser.wait_text("migrate-title", "In sync")
        browser.wait_text("window-left", "59 min")
    with scenario.case("a migration is cancelled after a question, and the page says what remains"):
        browser.click("cancel")
        browser.keys(Keys.ESCAPE)
        browser.wait("the dialog's end", lambda: not browser.visible("cancel-dialog"))
        scenario.expect(browser.screen() == "migrate", browser.screen())
        browser.click("cancel")
        browser.click("cancel-confirm")
        browser.wait_screen("ended")
        browser.wait_text("ended-title", "cancelled")
        browser.wait("what remains", lambda: browser.text("ended-remains"))
        expect_look(scenario, browser, "cancelled")


def is_data(request):
    return request.database == "shop"


def killed_in_each_phase(scenario, browser, pair):
    """A proxy makes each phase last until the server is killed in it; the last kill is in the cutover."""
    scenario.reset(pair.destination)
    sides = Proxied(pair)
    serve = Serve(scenario.folder())

    def slow(phase):
        for side in sides:
            side.script.clear()
        if phase == "copying":
            sides.destination.script.on("insert", when=is_data, times=None).delay(3)
        elif phase == "catching-up":
            sides.source.script.on("getMore", when=lambda request: request.database == "admin",
                                   times=None).delay(5)
        elif phase == "finalizing":
            sides.destination.script.on("listIndexes", when=is_data, times=None).delay(1)

    def killed(phase, title, name):
        with scenario.case("kill -9 while %s: the page comes back with the truth, and goes on" % phase):
            browser.wait_text(name, title)
            serve.kill()
            browser.wait("the banner", lambda: browser.visible("away"))
            start_again(browser, serve)
            browser.wait("the offer", lambda: browser.visible("resume-note"), timeout=30)
            scenario.expect(browser.screen() == "setup", "it still shows " + browser.screen())

    try:
        slow("copying")
        browser.driver.get(serve.address)
        browser.wait_screen("setup")
        for name, text in (("source", sides.source.uri), ("destination", sides.destination.uri),
                           ("option-job", "kills"), ("option-workers", "2")):
            browser.type(name, text)
        browser.click("validate")
        browser.click("continue")
        browser.wait("the plan", lambda: browser.enabled("start"))
        browser.click("start")
        browser.click("start-confirm")
        killed("copying", "Copying", "migrate-title")
        slow("catching-up")
        browser.click("resume")
        killed("catching-up", "Catching up", "migrate-title")
        slow("in-sync")
        browser.click("resume")
        killed("in-sync", "In sync", "migrate-title")
        slow("finalizing")
        browser.click("resume")
        browser.click("ready")
        browser.click("confirm-stopped")
        browser.click("finalize")
        with scenario.case("a cutover that has begun is called off, and can be asked for again"):
            browser.wait("the button", lambda: browser.visible("cutover-abort"))
            browser.click("cutover-abort")
            browser.wait_screen("migrate")
            browser.wait_text("last-attempt", "called off")
            browser.click("ready")
            browser.click("confirm-stopped")
            browser.click("finalize")
        killed("finalizing", "Finalizing", "screen-cutover")
        slow("nothing")
        with scenario.case("after the last kill it is not cut over by itself, and then well"):
            browser.click("resume")
            browser.click("ready")
            browser.click("confirm-stopped")
            browser.click("finalize")
            browser.wait_screen("done")
            browser.wait("the summary", lambda: browser.pairs("done-figures"))
            scenario.expect(browser.pairs("done-figures")["Restarts"] == "4",
                            str(browser.pairs("done-figures")))
            scenario.expect_equal(pair)
    finally:
        serve.close()
        sides.close()


def named_sides(scenario, browser, pair):
    """A server that knows both sides from its start."""
    serve = Serve(scenario.folder(), "--source", UNREACHABLE, "--destination", pair.destination.uri)
    try:
        with scenario.case("sides that the server was started with are named, without credentials"):
            browser.driver.get(serve.address)
            browser.wait_screen("setup")
            browser.wait("the source's name", lambda: "127.0.0.1:1" in browser.value("source"))
            scenario.expect("secret-word" not in browser.driver.page_source +
                            browser.value("source"), browser.value("source"))
            browser.click("validate")
            browser.wait_text("results-open", "Source connection")
            expect_look(scenario, browser, "named")
    finally:
        serve.close()


def nothing_amiss(scenario, browser, serve):
    with scenario.case("no errors in the console, and no violation of the policy"):
        port = str(serve.port)
        for level, message in browser.note_messages():
            gone = "/api/v1/" in message and port in message and (
                "ERR_CONNECTION_REFUSED" in message or "ERR_INCOMPLETE_CHUNKED" in message or
                "ERR_CONNECTION_RESET" in message or "ERR_SOCKET_NOT_CONNECTED" in message or
                "ERR_EMPTY_RESPONSE" in message)
            refused = "/api/v1/events" in message and "401" in message or "/api/v1/extend" in message
            scenario.expect(level != "SEVERE" or gone or refused, message)
            scenario.expect("Content Security Policy" not in message, message)
    with scenario.case("connection strings are kept nowhere"):
        kept = browser.run("return JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
        scenario.expect("towline-token" in kept and "mongodb" not in kept, kept)
        browser.driver.refresh()
        browser.wait_screen("ended")
        scenario.expect(browser.value("source") == "", "the form still has the source")
        output = "".join(serve.output)
        scenario.expect("secret-word" not in output, "the password is in the server's log")


def main():
    arguments = [("--shots", {"default": None, "help": "keep a picture of each screen in this folder"})]
    with Scenario(__doc__, arguments) as scenario:
        pair = scenario.pair()
        writer = Writer(pair.source.uri, threads=2, seed=scenario.seed, rate=200)
        writer.fill()
        pair.source.client["shop"][MARKUP].insert_one({"_id": 1})
        pair.source.client["shop"]["filler"].insert_many(
            [{"_id": number, "text": "x" * 2000} for number in range(FILLER)])
        serve = Serve(scenario.folder())
        browser = Browser(scenario.arguments.shots)
        try:
            writer.start()
            first_visit(scenario, browser, serve)
            by_keyboard(scenario, browser, pair)
            mistakes(scenario, browser, pair)
            review(scenario, browser, pair)
            interrupted(scenario, browser, serve, pair)
            in_sync(scenario, browser)
            cutover(scenario, browser, writer)
            success(scenario, browser, pair)
            other_ends(scenario, browser, pair)
            nothing_amiss(scenario, browser, serve)
            named_sides(scenario, browser, pair)
            killed_in_each_phase(scenario, browser, pair)
        finally:
            browser.close()
            serve.close()
            if scenario.failed:
                sys.stderr.write("--- end of the server's output\n%s" % "".join(serve.output[-40:]))


if __name__ == "__main__":
    main()
