// cutover.js: the cutover's first two steps; the third is the page of success.
import {$, attempt, setBar, setPairs, setText, show} from "./dom.js";
import {count, counted, duration, percent} from "./format.js";
import {setSteps} from "./migrate.js";
import {isFinalizing} from "./phases.js";

export class Cutover {
    // canBlock(): whether the server can block writes on the source; refresh(): asks for progress at once.
    constructor(api, canBlock, onBack, refresh) {
        this.api = api;
        this.refresh = refresh;
        this.canBlock = canBlock;
        this.progress = null;
        $("cutover-form").addEventListener("input", () => this.renderForm());
        $("cutover-back").addEventListener("click", onBack);
        $("cutover-form").addEventListener("submit", (event) => {
            event.preventDefault();
            this.finalize();
        });
        $("cutover-abort").addEventListener("click", () => this.callOff());
    }

    // Each time the confirmation is given anew.
    open() {
        $("cutover-form").reset();
        setText($("cutover-error"), "");
    }

    blocks() {
        return $("cutover-form").elements.stop.value === "block";
    }

    render(progress) {
        this.progress = progress;
        const finalizing = isFinalizing(progress);
        setSteps($("cutover-steps"), finalizing ? "finalize" : "stop", false);
        show($("cutover-form"), !finalizing);
        show($("finalizing"), finalizing);
        if (finalizing) renderFinalizing(progress);
        else this.renderForm();
    }

    renderForm() {
        const {canCommit, reason} = this.progress;
        show($("cutover-how"), this.canBlock());
        const confirmed = this.blocks() || $("confirm-stopped").checked;
        show($("confirm-label"), !this.blocks());
        $("finalize").disabled = this.asking || !canCommit || !confirmed;
        setText(
            $("cutover-reason"),
            !canCommit
                ? `Not possible now: ${reason || "the job is not in sync"}.`
                : confirmed
                  ? ""
                  : "Confirm that the writes have stopped, then finalize.",
        );
    }

    async finalize() {
        this.asking = true;
        await attempt(
            $("finalize"),
            $("cutover-error"),
            async () => {
                await this.api.post(
                    "cutover",
                    this.blocks() ? {blockWrites: true} : {writesStopped: true},
                );
                await this.refresh();
            },
            "Asking…",
        );
        this.asking = false;
        this.renderForm();
    }

    // Nothing is lost by it, so it asks no question.
    async callOff() {
        await attempt(
            $("cutover-abort"),
            $("finalizing-error"),
            async () => {
                await this.api.post("cutover/abort");
                await this.refresh();
            },
            "Calling off…",
        );
    }
}

function renderFinalizing(progress) {
    const {estimatedSeconds, writesBlocked, lateWrites} = progress.cutover ?? {};
    const {hashedDocumentCount: done, estimatedDocumentCount: total} = progress.verification ?? {};
    setText(
        $("finalizing-text"),
        "The last changes are replayed, indexes and TTL are restored, and what " +
            "was written last is compared. You may leave this page: it goes on without it.",
    );
    setBar($("finalizing-bar"), total ? done : null, total);
    setPairs($("finalizing-figures"), [
        typeof estimatedSeconds === "number" && estimatedSeconds >= 0
            ? ["Estimated time", `about ${duration(Math.max(1, estimatedSeconds))}`]
            : null,
        [
            "Compared",
            total ? `${percent(done, total)} of ${counted(total, "document")}` : "not yet",
        ],
        ["Events waiting", count(progress.backlogEvents)],
        ["Dirty keys", count(progress.dirtyKeys)],
        [
            "Writes on the source",
            writesBlocked
                ? "blocked by Towline"
                : lateWrites > 0
                  ? "written to since you confirmed that they had stopped"
                  : "stopped, as you confirmed",
        ],
        lateWrites === undefined
            ? null
            : ["Late writes", count(lateWrites), lateWrites ? "warned" : ""],
    ]);
    show($("late"), lateWrites > 0);
    setText(
        $("late"),
        lateWrites > 0
            ? `${counted(lateWrites, "write")} came after the confirmation: something ` +
                  "still writes to the source. Stop it: the cutover waits for them, and is called off when they go on."
            : "",
    );
}
