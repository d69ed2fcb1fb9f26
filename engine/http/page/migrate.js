// migrate.js: the screen while a job runs.
import {Charts} from "./charts.js";
import {$, attempt, element, setBar, setPairs, setText, show} from "./dom.js";
import {
    bytes,
    clock,
    count,
    counted,
    duration,
    isDuration,
    moment,
    percent,
    rate,
} from "./format.js";
import {STEPS, lead, step, title} from "./phases.js";

const ROWS_MOST = 100;
const LOW_SECONDS = 24 * 3600; // less than this of the window is shown as a warning

const isCopied = (copy) => copy.rangesTotal > 0 && copy.rangesCopied >= copy.rangesTotal;

export class Migrate {
    // onReady: the reader wants to cut over; refresh(): asks for progress at once.
    constructor(api, onReady, refresh) {
        this.api = api;
        this.refresh = refresh;
        this.charts = new Charts();
        this.rows = new Map();
        $("phases").append(
            ...STEPS.map(([phase, label]) => element("li", {"data-step": phase}, label)),
        );
        $("ready").addEventListener("click", onReady);
        $("pause").addEventListener("click", () => this.pause());
        $("verify-again").addEventListener("click", () =>
            attempt($("verify-again"), $("control-error"), () => this.api.post("verify")),
        );
        $("extend").addEventListener("click", () => this.openExtend());
        $("extend-close").addEventListener("click", () => $("extend-dialog").close());
        $("extend-form").addEventListener("submit", (event) => {
            event.preventDefault();
            this.extend();
        });
    }

    render(progress, history) {
        this.progress = progress;
        setText($("migrate-title"), title(progress.phase));
        setText($("migrate-lead"), lead(progress.phase));
        setSteps($("phases"), step(progress), progress.phase === "paused");
        const silent = ["source", "destination"]
            .filter((side) => progress[side]?.silentMs > 0)
            .map((side) => `The ${side} has not answered for ${duration(progress[side].silentMs / 1000)}.`);
        if (progress.retrying) silent.push(`Trying again: ${progress.retrying}`);
        setText($("retrying"), silent.join(" "));
        show($("retrying"), silent.length > 0);
        this.renderReady(progress);
        this.renderCopy(progress, history);
        this.renderFigures(progress);
        this.charts.render(history);
        renderWindow(progress);
        renderVerification(progress);
        this.renderControl(progress);
    }

    renderReady(progress) {
        $("ready").disabled = !progress.canCommit;
        $("ready-card").classList.toggle("is-ready", progress.canCommit);
        setText(
            $("ready-reason"),
            progress.canCommit
                ? "Source and destination are in sync: the cutover is possible now."
                : `Not possible yet: ${progress.reason || "the job is not in sync"}.`,
        );
        const attempt = progress.cutover?.lastAttempt;
        show($("last-attempt"), Boolean(attempt));
        setText(
            $("last-attempt"),
            attempt
                ? `The last cutover was called off on ${moment(attempt.calledOffAt)}` +
                      (attempt.lateWrites > 0
                          ? `, ${counted(attempt.lateWrites, "write")} after the confirmation. ` +
                            "Find what still writes to the source, and stop it."
                          : `: ${attempt.reason}.`)
                : "",
        );
    }

    renderCopy(progress, history) {
        const copy = progress.collectionCopy ?? {};
        const copied = copy.estimatedCopiedBytes,
            total = copy.estimatedTotalBytes;
        const done = isCopied(copy);
        const perSecond = history.last().copy;
        setBar($("copy-bar"), done ? 1 : copied, done ? 1 : total);
        if (done) {
            setText(
                $("copy-text"),
                `Done: ${bytes(copied)}, ${counted(copy.copiedDocuments, "document")}.`,
            );
        } else if (total > 0) {
            const left =
                perSecond > 0
                    ? `, ${rate(perSecond, "bytes")}, about ` +
                      `${duration(Math.max(1, (total - copied) / perSecond))} left`
                    : "";
            setText(
                $("copy-text"),
                `${percent(copied, total)}: ${bytes(copied)} of about ${bytes(total)}${left}`,
            );
        } else {
            setText($("copy-text"), "Not begun yet.");
        }
    }

    renderFigures(progress) {
        const copy = progress.collectionCopy ?? {},
            indexes = progress.indexBuilding ?? {};
        setPairs($("copy-figures"), [
            ["Collections", `${count(copy.collectionsCopied)} of ${count(copy.collectionsTotal)}`],
            [
                "Documents",
                isCopied(copy)
                    ? count(copy.copiedDocuments)
                    : `${count(copy.copiedDocuments)} of about ${count(copy.estimatedTotalDocuments)}`,
            ],
            ["Ranges", `${count(copy.rangesCopied)} of ${count(copy.rangesTotal)}`],
            [
                "Indexes built",
                `${count(indexes.indexesBuilt)} of ${count(indexes.totalIndexesToBuild)}`,
            ],
        ]);
        setPairs($("change-figures"), [
            [
                "Lag",
                typeof progress.lagMs === "number"
                    ? duration(progress.lagMs / 1000)
                    : "not known yet",
            ],
            ["Events seen", count(progress.eventsSeen)],
            ["Changes applied", count(progress.totalEventsApplied)],
            ["Events waiting", count(progress.backlogEvents)],
            ["Dirty keys", count(progress.dirtyKeys)],
            ["Mode", progress.mode],
            ["Spool", bytes(progress.spoolBytes)],
            ["Retries", count(progress.retries), progress.retries ? "warned" : ""],
            ["Source answers in", duration(progress.source?.pingLatencyMs / 1000)],
            ["Destination answers in", duration(progress.destination?.pingLatencyMs / 1000)],
        ]);
    }

    renderControl(progress) {
        const paused = progress.phase === "paused";
        setText($("pause"), paused ? "Resume" : "Pause");
        $("pause").disabled = !["copying", "catching-up", "in-sync", "paused"].includes(
            progress.phase,
        );
        setText(
            $("control-text"),
            `Running for ${duration(Math.max(1, Math.round(progress.elapsedSeconds)))}.`,
        );
    }

    async pause() {
        const verb = this.progress.phase === "paused" ? "resume" : "pause";
        await attempt($("pause"), $("control-error"), async () => {
            await this.api.post(verb);
            await this.refresh();
        });
    }

    openExtend() {
        setText($("extend-error"), "");
        setText($("extend-text"), $("window-text").textContent);
        $("extend-dialog").showModal();
        $("extend-duration").select();
    }

    async extend() {
        const length = $("extend-duration").value.trim();
        const extended = await attempt($("extend-confirm"), $("extend-error"), async () => {
            checkDuration(length);
            await this.api.post("extend", {duration: length});
            await this.refresh();
            return true;
        });
        if (extended) $("extend-dialog").close();
        else $("extend-duration").focus();
    }

    // The rows stay what they are, and only change what they say: the reader may select in them.
    async loadCollections() {
        const {collections, total} = await this.api.get(`collections?limit=${ROWS_MOST}`);
        const seen = new Set(collections.map((item) => item.ns));
        for (const [ns, row] of this.rows) {
            if (!seen.has(ns)) {
                row.node.remove();
                this.rows.delete(ns);
            }
        }
        collections.forEach((item, index) => {
            const row = this.rows.get(item.ns) ?? makeRow(item.ns);
            this.rows.set(item.ns, row);
            if ($("collections").children[index] !== row.node)
                $("collections").insertBefore(row.node, $("collections").children[index] ?? null);
            fillRow(row, item);
        });
        setText(
            $("collections-more"),
            total > collections.length
                ? `The largest ${collections.length} of ${counted(total, "collection")}.`
                : total === 0
                  ? "None is known yet."
                  : "",
        );
    }
}

export function checkDuration(text) {
    if (!isDuration(text))
        throw new Error(
            `“${text}” is no duration: give days, hours, minutes and seconds, such as 24h, ` +
                "1d12h or 90m.",
        );
}

export function setSteps(list, current, paused) {
    const items = [...list.children];
    const at = items.findIndex((item) => item.dataset.step === current);
    items.forEach((item, index) => {
        item.dataset.state =
            index < at ? "done" : index === at ? (paused ? "paused" : "now") : "later";
        if (index === at) item.setAttribute("aria-current", "step");
        else item.removeAttribute("aria-current");
    });
}

function makeRow(ns) {
    const bar = element("progress", {max: 1, value: 0, "aria-label": `Copied of ${ns}`});
    const text = element("span", {class: "bar-text"});
    const documents = element("td", {class: "number wide"}),
        size = element("td", {class: "number"});
    const node = element(
        "tr",
        {},
        element("th", {scope: "row"}, ns),
        element("td", {class: "bar-cell"}, bar, text),
        documents,
        size,
    );
    return {node, bar, text, documents, size};
}

function fillRow(row, item) {
    const done = item.state === "copied";
    const unclear = item.state === "copying" && item.rangesTotal <= 1; // within its one range
    setBar(
        row.bar,
        unclear ? null : done ? 1 : item.rangesCopied,
        done ? 1 : Math.max(1, item.rangesTotal),
    );
    row.node.dataset.state = item.state;
    setText(
        row.text,
        item.state === "copying" && item.rangesTotal > 1
            ? `${count(item.rangesCopied)} of ${counted(item.rangesTotal, "range")}`
            : item.state,
    );
    setText(row.documents, count(item.estimatedDocuments));
    setText(row.size, bytes(item.estimatedBytes));
}

function renderWindow(progress) {
    if (!progress.window) {
        setText($("window-left"), "none");
        setText($("window-text"), "The job stays in sync until it is cut over.");
        return;
    }
    const {lengthSeconds, endsAt, leftSeconds} = progress.window;
    const low = endsAt && leftSeconds < LOW_SECONDS;
    setText(
        $("window-left"),
        endsAt ? `${duration(Math.max(1, leftSeconds))} left` : duration(lengthSeconds),
    );
    $("window-left").classList.toggle("warned", Boolean(low));
    setText(
        $("window-text"),
        endsAt
            ? `Cut over by ${moment(endsAt)}, or extend. Then the sync stops cleanly.`
            : "It begins when both sides are in sync for the first time; cut over within it, or extend it.",
    );
}

function renderVerification(progress) {
    const {hashedDocumentCount: done, estimatedDocumentCount: total} = progress.verification ?? {};
    const upTo = progress.positions?.verified;
    setBar($("verify-bar"), total ? done : 0, total || 1);
    setText(
        $("verify-text"),
        total
            ? `${percent(done, total)}: ${count(done)} of ${counted(Math.max(done, total), "document")} compared` +
                  (upTo ? `; equal as of ${clock(upTo.t * 1000)}.` : ".")
            : "Compares both sides in the background once they are in sync.",
    );
    $("verify-again").disabled = progress.phase !== "in-sync";
}
