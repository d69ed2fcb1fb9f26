// ended.js: the pages at the end of a job: migrated, or failed, expired, cancelled.
import {$, attempt, setList, setPairs, setText, show} from "./dom.js";
import {bytes, count, counted, duration, moment, sentence} from "./format.js";
import {checkDuration} from "./migrate.js";
import {STEPS, title} from "./phases.js";

const PHASE_NAMES = Object.fromEntries([...STEPS, ["paused", "Paused"]]);

const NEXT = {
    failed: [
        "Mend what the reason names.",
        "Continue the job with the same settings: it goes on where it stopped, and loses nothing.",
        "Until then the source serves the application as before.",
    ],
    expired: [
        "Continue the job with more time: it goes on where it stopped, as long as the source’s " +
            "oplog reaches back to there.",
        "Until then the source serves the application as before.",
    ],
    cancelled: [
        "The application keeps using the source; nothing has to be undone there.",
        "Drop what was copied on the destination, or let a new job clear it.",
    ],
};

const REMAINS = {
    failed: [
        "The source is as it was.",
        "The destination keeps what was copied, and the job’s state.",
    ],
    expired: [
        "The source is as it was.",
        "The destination keeps what was copied, and the job’s state.",
    ],
    cancelled: ["The source is as it was.", "The destination keeps what was copied until then."],
};

function figures(summary) {
    return [
        summary.downtimeSeconds === null
            ? null
            : ["Application downtime", duration(summary.downtimeSeconds)],
        ["Duration", duration(summary.durationSeconds)],
        ["Initial copy", bytes(summary.initialBytes)],
        ["Documents", count(summary.initialDocuments)],
        ["Collections", count(summary.collections)],
        ["Indexes", count(summary.indexes)],
        ["Changes of the source", count(summary.eventsSeen)],
        ["Keys refetched", count(summary.keysRefetched)],
        summary.cutover?.lateWrites ? ["Late writes", count(summary.cutover.lateWrites)] : null,
        summary.cutover?.calledOff
            ? ["Cutovers called off", count(summary.cutover.calledOff)]
            : null,
        ["Restarts", count(summary.restarts)],
    ];
}

// The state of the synced changes, in a sentence.
function syncedText({syncedChanges, source, destination}) {
    const upTo = syncedChanges?.upTo ? ` up to ${moment(syncedChanges.upTo.t * 1000)}` : "";
    return `Every change of ${source}${upTo} is on ${destination}. `;
}

export class Ended {
    // on: again() opens the form, extendBy(duration) and restart() start the same job again;
    // canRestart(): whether the page still knows both sides.
    constructor(api, on) {
        this.api = api;
        this.on = on;
        $("done-again").addEventListener("click", on.again);
        $("ended-again").addEventListener("click", on.again);
        $("ended-continue").addEventListener("click", () => this.goOn());
        $("done-copy").addEventListener("click", () => copyAddress());
    }

    async goOn() {
        const extension = this.phase === "expired" ? $("ended-extend").value.trim() : null;
        await attempt(
            $("ended-continue"),
            $("ended-error"),
            () => {
                if (extension !== null) checkDuration(extension);
                return this.on.restart(extension);
            },
            "Starting…",
        );
    }

    // The summary stays the same from the end of a job on; `phase` and the time tell jobs apart.
    async load(progress) {
        this.phase = progress.phase;
        const {summary} = await this.api.get("summary");
        if (progress.phase === "done") renderDone(summary);
        else this.renderEnded(progress, summary);
    }

    renderEnded(progress, summary) {
        const phase = progress.phase;
        setText($("ended-title"), title(phase));
        $("ended-head").dataset.phase = phase;
        setText($("ended-reason"), sentence(summary.error || progress.reason));
        setList($("ended-remains"), [
            ...REMAINS[phase],
            ...(summary.remains ?? []).map(sentence),
            ...(summary.notes ?? []).map(sentence),
        ]);
        setList($("ended-next"), NEXT[phase]);
        show($("ended-extend-field"), phase === "expired");
        show($("ended-continue"), phase !== "cancelled");
        setText(
            $("ended-continue"),
            phase === "expired" ? "Extend and continue" : "Continue the job",
        );
        setText(
            $("ended-again"),
            phase === "cancelled" ? "Set up another migration" : "Change settings",
        );
        setPairs($("ended-figures"), figures(summary));
    }
}

function renderDone(summary) {
    const verification = summary.verification;
    setText(
        $("done-lead"),
        syncedText(summary) +
            (summary.downtimeSeconds === null
                ? ""
                : `The application’s downtime was ${duration(summary.downtimeSeconds)}, from the confirmation to the end.`),
    );
    $("done-address").value = summary.destinationAddress ?? `mongodb://${summary.destination}/`;
    setPairs($("done-figures"), figures(summary));
    setPairs($("done-phases"), [
        ...Object.entries(summary.phaseSeconds).map(([phase, seconds]) => [
            PHASE_NAMES[phase] ?? phase,
            duration(seconds),
        ]),
        summary.window ? ["In sync since", moment(summary.window.beganAt)] : null,
    ]);
    setText($("done-verification"), verificationText(verification));
    $("done-verification").className = verification?.equal ? "good" : "warned";
    setList(
        $("done-differences"),
        (verification?.differences ?? [])
            .slice(0, 50)
            .map(
                (item) =>
                    `${item.ns}: ${item.kind ?? "different"}${item.repaired ? ", repaired" : ""}`,
            ),
    );
    setList($("done-remains"), [
        "The source is as it was. Keep it until the application runs well on the " + "destination.",
        ...(summary.remains ?? []).map(sentence),
    ]);
    const notes = [
        ...(summary.indexFailures ?? []).map(
            (item) => `${item.ns}: index ${item.name} was refused: ${item.message}`,
        ),
        ...(summary.notes ?? []),
    ];
    setList($("done-notes"), notes);
    show($("done-notes-card"), notes.length > 0);
}

function verificationText(verification) {
    if (!verification)
        return "Was not asked for. Compare both sides yourself, for example with “towline verify”.";
    const documents = verification.collections.reduce(
        (sum, item) => sum + (item.source?.documents ?? 0),
        0,
    );
    if (verification.equal && !verification.repaired)
        return (
            `Equal: ${counted(documents, "document")} in ${counted(verification.collections.length, "namespace")} ` +
            "were compared by their hashes."
        );
    if (verification.equal)
        return `Equal after ${counted(verification.repaired, "document")} were made equal.`;
    return `${counted(verification.differencesTotal, "difference")} found.`;
}

async function copyAddress() {
    const box = $("done-address");
    box.select();
    try {
        await navigator.clipboard.writeText(box.value);
        setText($("done-copied"), "Copied.");
    } catch {
        setText($("done-copied"), "Selected: copy it with the keyboard.");
    }
}
