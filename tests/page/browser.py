# SPDX-License-Identifier: Apache-2.0
"""browser.py: a headless Chromium with the page in it, driven as a person would: what is not visible
cannot be clicked, every wait has a deadline, and its failure says what the page shows."""
import base64
import pathlib
import tempfile
import time

from selenium import webdriver
from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

SECONDS = 60
# --no-sandbox: tests run as root in containers; the page comes from this machine alone.
ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync",
             "--disable-dev-shm-usage", "--lang=en", "--window-size=1280,800"]
# Each look that a screen is seen in: width, dark or light.
LOOKS = {"wide": (1280, False), "dark": (1280, True), "phone": (360, False)}

# Where text is cut off or runs out of the window, and what has no name for a screen reader.
FAULTS = """
const faults = [];
const width = document.documentElement.clientWidth;
if (document.documentElement.scrollWidth > width)
    faults.push(`the page is ${document.documentElement.scrollWidth} wide`);
for (const node of document.querySelectorAll("input, select, textarea, button, progress, dialog[open]")) {
    if (!node.checkVisibility())
        continue;
    const named = node.labels?.length || node.getAttribute("aria-label") ||
        node.getAttribute("aria-labelledby") || (node.tagName === "BUTTON" && node.textContent.trim());
    if (!named)
        faults.push(`${node.tagName} ${node.id} has no name`);
    const box = node.getBoundingClientRect();
    if (!node.closest(".scroll") && (box.left < 0 || box.right > width + 0.5))
        faults.push(`${node.tagName} ${node.id} reaches from ${box.left} to ${box.right}`);
}
for (const id of [...document.querySelectorAll("[id]")].map((node) => node.id))
    if (document.querySelectorAll("#" + CSS.escape(id)).length > 1)
        faults.push(`the id ${id} is there twice`);
return faults;
"""

# The least contrast of a visible text with what is behind it, by WCAG's formula.
CONTRAST = """
const parts = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
const channel = (value) => (value /= 255) <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const over = (front, back) => { const a = front[3] ?? 1;
    return [0, 1, 2].map((i) => front[i] * a + back[i] * (1 - a)); };
function behind(node) {
    if (!node) return [255, 255, 255];
    const colour = parts(getComputedStyle(node).backgroundColor);
    return (colour[3] ?? 1) === 1 ? colour : over(colour, behind(node.parentElement));
}
let least = [99, ""];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !node.checkVisibility() ||
        node.closest(":disabled, .unseen, .skip, noscript, .is-stale"))
        continue;
    const back = behind(node), front = over(parts(getComputedStyle(node).color), back);
    const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < least[0]) least = [ratio, node.textContent.trim().slice(0, 60)];
}
return least;
"""


class Browser:
    """shots: a folder for pictures of each screen; None: they are looked at by the checks alone."""

    def __init__(self, shots=None):
        self.shots = pathlib.Path(shots) if shots else None
        self.folder = tempfile.TemporaryDirectory(prefix="towline-page-")
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for argument in ARGUMENTS + ["--user-data-dir=" + self.folder.name]:
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        self.driver.set_page_load_timeout(SECONDS)
        self.messages = []  # of the console, errors and violations of the policy
        if self.shots:
            self.shots.mkdir(parents=True, exist_ok=True)

    def close(self):
        self.driver.quit()
        self.folder.cleanup()

    # Looking ------------------------------------------------------------------------------------

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def node(self, name):
        return self.driver.find_element(By.ID, name)

    def text(self, name):
        """What it says; "" while it cannot be seen."""
        return self.run("const node = document.getElementById(arguments[0]);"
                        "return node.checkVisibility() ? node.textContent : ''", name).strip()

    def value(self, name):
        return self.node(name).get_property("value")

    def visible(self, name):
        return self.node(name).is_displayed()

    def enabled(self, name):
        return self.visible(name) and self.node(name).is_enabled()

    def screen(self):
        """The name of the screen that is shown."""
        return self.run("""return [...document.querySelectorAll("main > section[id^=screen-]")]
            .filter((section) => section.checkVisibility())
            .map((section) => section.id.slice(7)).join(" and ")""")

    def pairs(self, name):
        """What a list of figures says: {term: description}."""
        return dict(self.run("""return [...document.getElementById(arguments[0]).children].map((row) =>
            [row.firstElementChild.textContent, row.lastElementChild.textContent])""", name))

    def shows(self):
        return self.run("return document.querySelector('main').innerText")[:1500]

    def wait(self, what, condition, timeout=SECONDS):
        try:
            return WebDriverWait(self.driver, timeout, poll_frequency=0.05).until(lambda _: condition())
        except TimeoutException:
            raise AssertionError("no %s within %d s; the page shows: %s"
                                 % (what, timeout, self.shows())) from None

    def wait_screen(self, *names, timeout=SECONDS):
        return self.wait("screen " + " or ".join(names), lambda: self.screen() in names, timeout)

    def wait_text(self, name, part, timeout=SECONDS):
        return self.wait("%r in #%s" % (part, name), lambda: part in self.text(name), timeout)

    def note_messages(self):
        self.messages += [(entry["level"], entry["message"]) for entry in self.driver.get_log("browser")]
        return self.messages

    # Doing --------------------------------------------------------------------------------------

    def click(self, name):
        self.wait("#%s to press" % name, lambda: self.enabled(name))
        self.node(name).click()

    def type(self, name, text):
        box = self.node(name)
        box.clear()
        box.send_keys(text)

    def keys(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self):
        """The id of what has the focus, or the tag where there is none."""
        return self.run("const node = document.activeElement; return node.id || node.tagName")

    def has_ring(self):
        """Whether the focus can be seen."""
        return self.run("const style = getComputedStyle(document.activeElement);"
                        "return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2")

    def tab_to(self, name, most=80):
        """Presses Tab until the focus stands there; returns the ids on the way."""
        way = []
        while self.focused() != name:
            if len(way) >= most:
                raise AssertionError("Tab does not lead to %s, but to %s" % (name, way))
            self.keys(Keys.TAB)
            way.append(self.focused())
        return way

    # Looks --------------------------------------------------------------------------------------

    def look(self, name):
        """Shows the page in each look; returns its faults. Pictures go to the folder `shots`."""
        faults = []
        for look, (width, dark) in LOOKS.items():
            self._size(width, 800)
            self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [
                {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
                {"name": "prefers-reduced-motion", "value": "reduce"}]})  # colours do not pass slowly
            faults += ["%s %s: %s" % (name, look, fault) for fault in self.run(FAULTS)]
            ratio, text = self.run(CONTRAST)
            if ratio < 4.5:
                faults.append("%s %s: contrast %.2f of %r" % (name, look, ratio, text))
            if self.shots:
                self._picture("%s-%s.png" % (name, look), width)
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        return faults

    def _size(self, width, height):
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})

    def _picture(self, file, width):
        self._size(width, max(800, self.run("return document.documentElement.scrollHeight")))
        time.sleep(0.3)  # for the eye alone: the charts draw anew at their next figure
        picture = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
        (self.shots / file).write_bytes(base64.b64decode(picture["data"]))
