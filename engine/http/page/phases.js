// phases.js: what the phases of a job are called, and which screen shows them. All of it comes from the
// server's progress: the page keeps no state of its own but the form.

export const STEPS = [
    ["validating", "Validate"],
    ["preparing", "Prepare"],
    ["copying", "Copy"],
    ["catching-up", "Catch up"],
    ["in-sync", "In sync"],
    ["finalizing", "Finalize"],
];

export const ENDED = ["done", "failed", "expired", "cancelled"];

const TITLES = {
    new: "No migration yet",
    validating: "Validating",
    preparing: "Preparing the destination",
    copying: "Copying the data",
    "catching-up": "Catching up with the source",
    "in-sync": "In sync",
    finalizing: "Finalizing",
    done: "You have successfully migrated",
    paused: "Paused",
    failed: "The migration failed",
    expired: "The window is over",
    cancelled: "The migration was cancelled",
};

const LEADS = {
    validating: "Every check is made once more before anything is written.",
    preparing: "The change stream is opened, and the collections are created.",
    copying:
        "The application may keep writing to the source: its changes are collected and follow.",
    "catching-up": "The copy is done. What changed meanwhile is read again, and indexes are built.",
    "in-sync": "The destination follows the source. Cut over whenever it suits you.",
    paused: "Nothing is applied to the destination. The source’s changes are still collected.",
};

export function title(phase) {
    return TITLES[phase] ?? phase;
}

export function lead(phase) {
    return LEADS[phase] ?? "";
}

export function isActive(phase) {
    return phase !== "new" && !ENDED.includes(phase);
}

// Where a paused job stands: the furthest step whose figures are there.
export function step(progress) {
    if (progress.phase !== "paused") return progress.phase;
    if (progress.window?.endsAt) return "in-sync";
    const copy = progress.collectionCopy ?? {};
    return copy.rangesTotal && copy.rangesCopied >= copy.rangesTotal ? "catching-up" : "copying";
}

export function isFinalizing(progress) {
    return (
        progress.phase === "finalizing" ||
        ["confirmed", "finalizing"].includes(progress.cutover?.step)
    );
}

// The screen for this progress. `wish` is what the reader asked for where there is a choice: "review" or
// "setup" while no job runs, "cutover" while in sync.
export function screenOf(progress, wish) {
    if (!progress) return "connecting";
    if (isActive(progress.phase)) {
        if (isFinalizing(progress)) return "cutover";
        return wish === "cutover" && progress.phase === "in-sync" ? "cutover" : "migrate";
    }
    if (wish === "setup" || wish === "review") return wish;
    if (progress.phase === "new") return "setup";
    return progress.phase === "done" ? "done" : "ended";
}
