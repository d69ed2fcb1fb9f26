// setup.js: the form, and the validation of what it says.
import {$, announce, attempt, element, setText, show} from "./dom.js";
import {counted, sentence} from "./format.js";

// Options that have a place of their own in the form.
const PLACED = ["include", "exclude", "no-verify", "clear-destination"];
const MAIN = ["workers", "build-indexes", "index-errors", "window", "job"];
// The page asks for the cutover itself, and for more time where it is needed.
const HIDDEN = ["source", "destination", "cutover", "extend"];

const SIDES = ["source", "destination"];

const isNotice = (option) => option.name.startsWith("notify-");

// "notify-ca-file" → "notify CA file".
export function optionTitle(option) {
    return option.name
        .replaceAll("-", " ")
        .replace(/\b(ca|smtp|tls)\b/g, (word) => word.toUpperCase());
}

function lines(id) {
    return $(id)
        .value.split("\n")
        .map((line) => line.trim())
        .filter(Boolean);
}

function input(option, id) {
    const described = {id, name: option.name, "aria-describedby": `${id}-help`};
    if (option.type === "choice") {
        return element(
            "select",
            described,
            ...option.range
                .split("|")
                .map((choice) =>
                    element("option", {value: choice, selected: choice === option.initial}, choice),
                ),
        );
    }
    if (option.type === "flag") return element("input", {...described, type: "checkbox"});
    if (option.type === "list")
        return element("textarea", {...described, rows: 2, spellcheck: "false"});
    const kinds = {integer: "number", secret: "password"};
    const [min, max] = option.type === "integer" ? option.range.split("..") : [];
    return element("input", {
        ...described,
        type: kinds[option.type] ?? "text",
        min,
        max,
        placeholder: option.initial,
        spellcheck: "false",
        autocomplete: option.type === "secret" ? "new-password" : "off",
    });
}

function field(option) {
    const id = `option-${option.name}`;
    const label = optionTitle(option);
    const help = element("p", {id: `${id}-help`, class: "help"}, option.help);
    if (option.type === "flag") {
        return element(
            "div",
            {class: "field"},
            element("label", {class: "check"}, input(option, id), element("span", {}, label)),
            help,
        );
    }
    return element(
        "div",
        {class: "field"},
        element(
            "label",
            {for: id},
            label + (option.unit && option.type === "integer" ? ` (${option.unit})` : ""),
        ),
        help,
        input(option, id),
    );
}

export class Setup {
    // onContinue: the settings are valid, and the reader wants to go on.
    constructor(api, onContinue) {
        this.api = api;
        this.table = [];
        this.named = {source: "", destination: ""}; // "": to be given; null: not known
        this.help = Object.fromEntries(SIDES.map((side) => [side, $(`${side}-help`).textContent]));
        this.extension = null; // time to add to the window of an expired job
        this.canBlock = false; // whether the server can block writes on the source
        this.checked = null; // the settings, as text, that passed the validation
        $("setup-form").addEventListener("submit", (event) => {
            event.preventDefault();
            this.validate();
        });
        $("setup-form").addEventListener("input", () => this.onEdit());
        $("continue").addEventListener("click", onContinue);
        for (const button of document.querySelectorAll("[data-shows]"))
            button.addEventListener("click", () => toggleSecret(button));
    }

    // The form's fields from the server's table of options; once is enough.
    async load() {
        if (this.table.length) return;
        const {options} = await this.api.get("options");
        if (this.table.length) return;
        this.canBlock = options.some((option) => option.name === "block-writes");
        this.table = options.filter(
            (option) => !PLACED.includes(option.name) && !HIDDEN.includes(option.name),
        );
        const main = MAIN.map((name) => this.table.find((option) => option.name === name)).filter(
            Boolean,
        );
        $("main-options").replaceChildren(...main.map(field));
        const rest = this.table.filter((option) => !MAIN.includes(option.name));
        $("more-options").replaceChildren(...rest.filter((option) => !isNotice(option)).map(field));
        $("notice-options").replaceChildren(...rest.filter(isNotice).map(field));
    }

    // A side that the server was started with is named only.
    setNamed(named) {
        for (const side of SIDES) {
            if (named[side] === this.named[side]) continue;
            const box = $(side),
                given = Boolean(named[side]);
            if (given || this.named[side]) {
                box.value = given ? named[side] : "";
                box.type = given ? "text" : "password";
            }
            box.readOnly = given;
            show(document.querySelector(`[data-shows="${side}"]`), !given);
            setText(
                $(`${side}-help`),
                given
                    ? `The server was started with this ${side}.`
                    : this.help[side] +
                          (named[side] === null
                              ? " Leave it empty if the server was started with it."
                              : ""),
            );
        }
        this.named = named;
    }

    isMissing(side) {
        return this.named[side] === "" && !$(side).value.trim();
    }

    // The body of start, check and plan.
    settings() {
        const options = this.extension ? {extend: this.extension} : {};
        for (const option of this.table) {
            const box = $(`option-${option.name}`);
            if (option.type === "flag") {
                if (box.checked) options[option.name] = true;
            } else if (option.type === "list") {
                if (lines(box.id).length) options[option.name] = lines(box.id);
            } else if (box.value.trim() && box.value.trim() !== option.initial) {
                options[option.name] =
                    option.type === "integer" ? Number(box.value) : box.value.trim();
            }
        }
        if ($("clear-destination").checked) options["clear-destination"] = true;
        for (const name of ["include", "exclude"])
            if (lines(name).length) options[name] = lines(name);
        const body = {
            source: "cluster0",
            destination: "cluster1",
            verification: {enabled: $("verify").checked},
            options,
        };
        for (const side of SIDES)
            if (!this.named[side] && $(side).value.trim())
                body[`${side}Uri`] = $(side).value.trim();
        return body;
    }

    onEdit() {
        const same = this.checked !== null && this.checked === JSON.stringify(this.settings());
        $("continue").disabled = !same;
        $("continue").classList.toggle("primary", same);
        $("validate").classList.toggle("primary", !same);
        $("results").classList.toggle("is-stale", this.checked !== null && !same);
        if (this.checked !== null)
            setText($("continue-reason"), same ? "" : "The settings changed: validate them again.");
        for (const side of SIDES) this.complain(side, "");
    }

    complain(side, text) {
        setText($(`${side}-error`), text);
        $(side).setAttribute("aria-invalid", text ? "true" : "false");
    }

    // The first field that cannot be right, or null.
    firstMistake() {
        const missing = SIDES.filter((side) => this.isMissing(side));
        missing.forEach((side) =>
            this.complain(side, `Give the connection string of the ${side}.`),
        );
        if (missing.length) return $(missing[0]);
        const wrong = [...$("setup-form").elements].find(
            (box) => box.validity && !box.validity.valid,
        );
        if (wrong) {
            wrong.closest("details")?.setAttribute("open", "");
            setText($("setup-error"), `${wrong.name}: ${wrong.validationMessage}`);
        }
        return wrong ?? null;
    }

    async validate() {
        setText($("setup-error"), "");
        const mistake = this.firstMistake();
        if (mistake) {
            mistake.focus();
            return;
        }
        const settings = JSON.stringify(this.settings());
        this.checked = null;
        $("continue").disabled = true;
        const answer = await attempt(
            $("validate"),
            $("setup-error"),
            async () => {
                await this.load();
                return this.api.post("check", JSON.parse(settings));
            },
            "Validating…",
        );
        if (!answer) return;
        showChecks(answer.check);
        if (answer.check.ok) this.checked = settings;
        this.onEdit();
        if (!answer.check.ok)
            setText($("continue-reason"), "Mend what failed, then validate again.");
        $("results-title").focus();
    }
}

function toggleSecret(button) {
    const box = $(button.dataset.shows);
    const shown = box.type === "password";
    box.type = shown ? "text" : "password";
    button.setAttribute("aria-pressed", String(shown));
    setText(button, shown ? "Hide" : "Show");
}

const WORDS = {pass: "Pass", warning: "Warning", failure: "Failure", skipped: "Skipped"};

// "source_connection" → "Source connection".
export function checkTitle(name) {
    return sentence(name).replaceAll("_", " ").replace(" uri", " URI").replace(" tls", " TLS");
}

export function checkItem(check) {
    return element(
        "li",
        {"data-result": check.result},
        element("span", {class: "badge"}, WORDS[check.result] ?? check.result),
        element(
            "div",
            {},
            element("strong", {}, checkTitle(check.name)),
            element("p", {}, check.facts),
            check.advice ? element("p", {class: "advice"}, `What to do: ${check.advice}`) : null,
        ),
    );
}

function showChecks(check) {
    const matters = (item) => item.result === "failure" || item.result === "warning";
    const order = (item) => (item.result === "failure" ? 0 : 1);
    const open = check.checks.filter(matters).sort((a, b) => order(a) - order(b));
    const rest = check.checks.filter((item) => !matters(item));
    const text = check.ok
        ? `Everything that is needed is there: ${counted(check.checks.length, "check")}, ` +
          `${counted(check.warnings, "warning")}. Continue to review.`
        : `${counted(check.failures, "check")} failed. What to do stands beside each.`;
    setText($("results-summary"), text);
    announce(text);
    $("results-open").replaceChildren(...open.map(checkItem));
    $("results-passed").replaceChildren(...rest.map(checkItem));
    setText($("results-rest-title"), `${check.passed} passed, ${check.skipped} skipped`);
    show($("results"), true);
}
