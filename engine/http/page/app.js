// app.js: follows the server, and shows the screen that its progress calls for.
import {Api} from "./api.js";
import {History} from "./charts.js";
import {Cutover} from "./cutover.js";
import {$, announce, attempt, setText, show} from "./dom.js";
import {Ended} from "./ended.js";
import {clock, percent, sentence} from "./format.js";
import {Log} from "./log.js";
import {Migrate} from "./migrate.js";
import {isActive, isFinalizing, screenOf, title} from "./phases.js";
import {Review} from "./review.js";
import {Setup} from "./setup.js";

const TOKEN = "towline-token";
const SCREENS = ["connecting", "token", "setup", "review", "migrate", "cutover", "done", "ended"];
const WALK = {setup: 0, review: 1, migrate: 2, cutover: 3, done: 4, ended: 2};
const COLLECTIONS_COPYING_MS = 2000;
const COLLECTIONS_MS = 10000;
const NEWS_MS = 3000; // progress comes every second

// Of one process. The user's own token is for programs that look whom they send it to.
const tokenIn = (text) => /page-[0-9a-f]{64}/.exec(text)?.[0];

// The token comes with the address, stays with the tab, and is not seen in the address bar.
function takeToken() {
    if (location.hash.startsWith("#token=")) {
        sessionStorage.setItem(TOKEN, tokenIn(location.hash) ?? "");
        window.history.replaceState(null, "", location.pathname);
    }
    return sessionStorage.getItem(TOKEN) ?? "";
}

class App {
    constructor() {
        this.api = new Api(takeToken());
        this.progress = null;
        this.wish = null; // see screenOf
        this.screen = "connecting";
        this.refused = false;
        this.unfinished = false; // the job that was seen last could go on
        this.started = null; // the settings of the job that this page started
        this.calledOff = ""; // why the last cutover was called off, as the log says
        this.summaryOf = "";
        this.collectionsAt = 0;
        this.history = new History();
        this.log = new Log();
        this.setup = new Setup(this.api, () => this.go("review"));
        this.review = new Review(
            this.api,
            this.setup,
            () => this.go("setup"),
            () => this.onStarted(),
        );
        const refresh = () => this.refresh();
        this.migrate = new Migrate(this.api, () => this.go("cutover"), refresh);
        this.cutover = new Cutover(
            this.api,
            () => this.setup.canBlock,
            () => this.go(null),
            refresh,
        );
        this.ended = new Ended(this.api, {
            again: () => this.go("setup"),
            restart: (extension) => this.restart(extension),
        });
        this.listen();
    }

    listen() {
        $("token-form").addEventListener("submit", (event) => {
            event.preventDefault();
            this.takeTyped();
        });
        for (const id of ["cancel", "cutover-cancel"]) {
            $(id).addEventListener("click", () => {
                $("cancel-dialog").returnValue = "";
                $("cancel-dialog").showModal();
            });
        }
        $("cancel-dialog").addEventListener("close", () => {
            if ($("cancel-dialog").returnValue === "yes") this.cancel();
        });
        $("resume").addEventListener("click", () =>
            attempt($("resume"), $("resume-error"), () => this.restart(null), "Starting…"),
        );
        window.addEventListener("hashchange", () => {
            if (location.hash.startsWith("#token=")) location.reload();
        });
    }

    run() {
        return this.api.follow({
            open: () => this.onOpen(),
            event: (name, data) => this.onEvent(name, data),
            away: (error, failures) => this.onAway(error, failures),
        });
    }

    // The server ---------------------------------------------------------------------------------

    onOpen() {
        this.refused = false;
        this.log.clear();
        this.calledOff = "";
        show($("away"), false);
        $("connection").dataset.state = "open";
        setText($("connection"), "Connected");
        this.setup.load().catch(() => {}); // asked for again at the validation
    }

    onEvent(name, data) {
        try {
            if (name === "progress") this.onProgress(data);
            else if (name === "log") this.onLog(data);
        } catch (error) {
            console.error(error); // a mistake of the page's own, not of the connection
        }
    }

    onLog(line) {
        this.log.add(line);
        if (line.name === "cutover_called_off") this.calledOff = sentence(line.message);
        else if (line.name === "phase" && /finalizing|validating/.test(line.message))
            this.calledOff = "";
    }

    onAway(error, failures) {
        if (error.status === 401) {
            setText($("token-error"), this.api.token ? sentence(error.message) : "");
            show($("away"), false);
            this.refused = true;
            this.render();
            return;
        }
        $("connection").dataset.state = "away";
        setText($("connection"), "Not connected");
        setText(
            $("away"),
            "The Towline server does not answer. The page tries again by itself" +
                (this.progress ? `; what it shows is as of ${clock(this.heardAt)}.` : ".") +
                (this.progress && isFinalizing(this.progress)
                    ? " A server started as “towline run” ends with its job: its terminal shows the summary."
                    : ""),
        );
        // A connection that is only renewed is no news.
        show($("away"), failures > 1 || !this.heardAt || Date.now() - this.heardAt > NEWS_MS);
    }

    takeTyped() {
        const typed = tokenIn($("token").value);
        if (!typed) {
            setText($("token-error"), "Paste the address that “towline page” prints.");
            return;
        }
        sessionStorage.setItem(TOKEN, typed);
        this.api.token = typed;
        $("token").value = "";
        setText($("token-error"), "");
        this.run();
    }

    onProgress(progress) {
        const before = this.progress;
        this.progress = progress;
        this.heardAt = new Date();
        if (progress.phase !== "new")
            this.unfinished = !["done", "cancelled"].includes(progress.phase);
        if (isActive(progress.phase) && !(before && isActive(before.phase))) this.wish = null; // however the job was started, this is what there is to see
        if (isFinalizing(progress)) this.wish = null; // a cutover that is called off leads back to the migration
        if (before && before.phase !== progress.phase) announce(title(progress.phase));
        this.history.add(progress, this.heardAt.getTime() / 1000);
        this.render();
    }

    // Screens ------------------------------------------------------------------------------------

    go(wish) {
        this.wish = wish;
        this.render();
    }

    render() {
        const progress = this.progress;
        const screen = this.refused ? "token" : screenOf(progress, this.wish);
        if (screen !== this.screen) this.change(screen);
        if (!progress || this.refused) return;
        setText($("top-job"), progress.phase === "new" ? "" : `Job “${progress.job}”`);
        document.title = documentTitle(progress);
        show($("log-card"), ["migrate", "cutover", "done", "ended"].includes(screen));
        if (screen === "setup") this.renderSetup();
        else if (screen === "migrate") this.renderMigrate();
        else if (screen === "cutover") this.cutover.render(progress);
        else if (screen === "done" || screen === "ended") this.loadSummary();
    }

    change(screen) {
        const first = this.screen === "connecting";
        this.screen = screen;
        document.querySelectorAll("dialog[open]").forEach((dialog) => dialog.close());
        for (const name of SCREENS) show($(`screen-${name}`), name === screen);
        [...$("walk").children].forEach((item, index) => {
            const at = WALK[screen];
            item.dataset.state =
                index < at || screen === "done" ? "done" : index === at ? "now" : "later";
            if (index === at) item.setAttribute("aria-current", "step");
            else item.removeAttribute("aria-current");
        });
        $("walk").classList.toggle("is-ended", screen === "ended");
        if (screen === "review") this.review.open();
        if (screen === "cutover") this.cutover.open();
        if (!first) {
            // the first screen is read from the top of the page
            window.scrollTo(0, 0);
            $(`screen-${screen}`).querySelector("h1").focus({preventScroll: true});
        }
    }

    renderSetup() {
        this.setup.setNamed(namedSides(this.progress));
        const anew = this.progress.phase === "new"; // perhaps after a crash
        setText(
            $("resume-title"),
            anew
                ? "The server was started anew, and runs no job now."
                : `The job “${this.progress.job}” can go on.`,
        );
        setText(
            $("resume-text"),
            "The job’s state is on the destination: with the same settings it goes on where it " +
                `was.${this.started ? "" : " Give them again, as this page keeps no connection strings."}`,
        );
        show($("resume-note"), this.unfinished);
        show($("resume"), anew && this.started !== null);
    }

    renderMigrate() {
        setText($("called-off"), this.calledOff);
        show($("called-off"), Boolean(this.calledOff));
        this.migrate.render(this.progress, this.history);
        const every = this.progress.phase === "copying" ? COLLECTIONS_COPYING_MS : COLLECTIONS_MS;
        const now = performance.now();
        if (
            !this.collectionsAt ||
            now - this.collectionsAt >= every ||
            this.collectionsOf !== this.progress.phase
        ) {
            this.collectionsAt = now;
            this.collectionsOf = this.progress.phase;
            this.migrate.loadCollections().catch(() => {}); // asked for again soon
        }
    }

    async loadSummary() {
        const {phase, job, elapsedSeconds} = this.progress;
        const key = `${job} ${phase} ${elapsedSeconds}`;
        if (this.summaryOf === key) return;
        this.summaryOf = key;
        try {
            await this.ended.load(this.progress);
        } catch {
            this.summaryOf = ""; // with the next progress again
        }
    }

    // What the reader asks for -------------------------------------------------------------------

    async onStarted() {
        const {extend, ...options} = this.review.settings.options;
        this.started = {...this.review.settings, options}; // time is added once
        this.setup.extension = null;
        await this.showStarted();
    }

    async showStarted() {
        this.wish = null;
        this.history = new History();
        await this.refresh();
    }

    async refresh() {
        const {progress} = await this.api.get("progress");
        this.onProgress(progress);
    }

    // The same job again; with the form when the page does not know the settings any more.
    async restart(extension) {
        if (!this.started) {
            this.setup.extension = extension;
            this.go("setup");
            return;
        }
        const options = {...this.started.options, ...(extension ? {extend: extension} : {})};
        await this.api.post("start", {...this.started, options});
        await this.showStarted();
    }

    async cancel() {
        const [button, place] =
            this.screen === "cutover"
                ? ["cutover-cancel", "finalizing-error"]
                : ["cancel", "control-error"];
        const answer = await attempt(
            $(button),
            $(place),
            () => this.api.post("cancel"),
            "Cancelling…",
        );
        if (answer) await this.refresh();
    }
}

// The sides that the server was started with, as it names them: without credentials. Once a job was
// started, progress names the job's sides, wherever they came from: then it is not known (null).
function namedSides({phase, directionMapping}) {
    return phase === "new"
        ? {source: directionMapping?.Source ?? "", destination: directionMapping?.Destination ?? ""}
        : {source: null, destination: null};
}

function documentTitle(progress) {
    const copy = progress.collectionCopy ?? {};
    const words =
        progress.phase === "copying"
            ? `${percent(copy.estimatedCopiedBytes, copy.estimatedTotalBytes)} copied`
            : title(progress.phase);
    return progress.phase === "new" ? "Towline" : `${words} – ${progress.job} – Towline`;
}

new App().run();
