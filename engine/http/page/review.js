// review.js: what would be moved, and the start of it.
import {$, attempt, element, setPairs, setText, show} from "./dom.js";
import {bytes, count, counted, duration} from "./format.js";
import {checkItem, optionTitle} from "./setup.js";

const ROWS_MOST = 200;

// What of the destination the start would drop, as the check names it.
function dropped(plan) {
    const check = plan.checks.find((item) => item.name === "destination_empty");
    return check?.result === "warning" ? check.facts : "";
}

function oplogText(plan) {
    if (typeof plan.oplogWindowSeconds !== "number") return ["not known", ""];
    const reaches = duration(plan.oplogWindowSeconds);
    return plan.oplogWindowSeconds >= plan.estimatedSeconds
        ? [`${reaches}, longer than the copy`, "good"]
        : [`${reaches}, shorter than the copy`, "warned"];
}

export class Review {
    // onBack: to the form; onStarted: the job was taken.
    constructor(api, setup, onBack, onStarted) {
        this.api = api;
        this.setup = setup;
        this.onStarted = onStarted;
        $("review-back").addEventListener("click", onBack);
        $("start").addEventListener("click", () => this.ask());
        $("start-dialog").addEventListener("close", () => {
            if ($("start-dialog").returnValue === "yes") this.start();
        });
    }

    async open() {
        this.settings = this.setup.settings();
        this.plan = null;
        setText($("review-error"), "");
        setText($("review-lead"), "Asking both sides what would be moved…");
        for (const id of [
            "review-figures",
            "review-options",
            "review-collections",
            "review-warnings",
        ])
            $(id).replaceChildren();
        setText($("review-more"), "");
        show($("review-resumes"), false);
        $("start").disabled = true;
        const settings = this.settings;
        try {
            const {plan} = await this.api.post("plan", settings);
            if (settings === this.settings) this.fill(plan);
        } catch (error) {
            setText($("review-lead"), "");
            setText($("review-error"), error.message);
        }
    }

    fill(plan) {
        this.plan = plan;
        const [oplog, kind] = oplogText(plan);
        setText(
            $("review-lead"),
            `From ${plan.source} to ${plan.destination}, as job “${plan.job}”.`,
        );
        setText(
            $("review-resumes"),
            "This job was begun before: it goes on where it was. What is already " +
                "on the destination is not copied again.",
        );
        show($("review-resumes"), plan.resumes);
        const warnings = plan.checks.filter(
            (check) => check.result === "warning" || check.result === "failure",
        );
        $("review-warnings").replaceChildren(
            ...(warnings.length
                ? [
                      element(
                          "div",
                          {class: "card"},
                          element("h2", {}, counted(warnings.length, "thing") + " to know"),
                          element("ul", {class: "results"}, ...warnings.map(checkItem)),
                      ),
                  ]
                : []),
        );
        setPairs($("review-figures"), [
            ["Collections", count(plan.collections)],
            plan.views ? ["Views", count(plan.views)] : null,
            ["Documents", count(plan.documents)],
            ["Size", bytes(plan.bytes)],
            ["Indexes", count(plan.indexes)],
            ["Ranges", count(plan.ranges)],
            ["Estimated copy", `about ${duration(Math.max(1, plan.estimatedSeconds))}`],
            ["Oplog reaches back", oplog, kind],
        ]);
        this.fillOptions();
        const sorted = [...(plan.namespaces ?? [])].sort(
            (a, b) => b.bytes - a.bytes || b.documents - a.documents,
        );
        $("review-collections").replaceChildren(...sorted.slice(0, ROWS_MOST).map(collectionRow));
        setText(
            $("review-more"),
            sorted.length > ROWS_MOST
                ? `The largest ${ROWS_MOST} of ${counted(sorted.length, "namespace")}.`
                : "",
        );
        if (!plan.ok)
            setText($("review-error"), "This cannot be started: go back, and mend what failed.");
        $("start").disabled = !plan.ok;
    }

    fillOptions() {
        const {options, verification} = this.settings;
        const rows = [
            [
                "verify",
                verification.enabled ? "yes, every document" : "no",
                verification.enabled ? "" : "warned",
            ],
            [
                "clear destination",
                options["clear-destination"] ? "yes" : "no",
                options["clear-destination"] ? "warned" : "",
            ],
            ["include", options.include?.join(", ") ?? "everything"],
            ["exclude", options.exclude?.join(", ") ?? "nothing"],
        ];
        if (options.extend) rows.push(["add to the window", options.extend]);
        for (const option of this.setup.table) {
            const value = options[option.name];
            if (value !== undefined)
                rows.push([
                    optionTitle(option),
                    option.type === "secret"
                        ? "given, not shown"
                        : `${value} ${option.type === "integer" ? option.unit : ""}`,
                ]);
            else if (["workers", "build-indexes", "index-errors", "window"].includes(option.name))
                rows.push([optionTitle(option), `${option.initial} (default)`]);
        }
        setPairs($("review-options"), rows);
    }

    ask() {
        const plan = this.plan;
        setText(
            $("start-text"),
            plan.resumes
                ? `Job “${plan.job}” goes on from ${plan.source} to ${plan.destination}.`
                : `${counted(plan.documents, "document")} (${bytes(plan.bytes)}) in ` +
                      `${counted(plan.collections, "collection")} are copied from ${plan.source} to ` +
                      `${plan.destination}. The source is only read; the application may keep writing to it.`,
        );
        setText($("start-drops"), dropped(plan));
        show($("start-drops"), Boolean(dropped(plan)));
        $("start-dialog").returnValue = "";
        $("start-dialog").showModal();
    }

    async start() {
        const answer = await attempt(
            $("start"),
            $("review-error"),
            () => this.api.post("start", this.settings),
            "Starting…",
        );
        if (answer) await this.onStarted();
    }
}

function collectionRow(item) {
    const known = item.measured ? item : {};
    return element(
        "tr",
        {},
        element(
            "th",
            {scope: "row"},
            item.ns,
            item.type === "collection" ? null : element("small", {class: "tag"}, item.type),
        ),
        element("td", {class: "number"}, count(known.documents)),
        element("td", {class: "number"}, bytes(known.bytes)),
        element("td", {class: "number wide"}, count(known.indexes)),
        element("td", {class: "number wide"}, count(known.ranges)),
    );
}
