// log.js: what the server's log says, newest first.
import {$, element, show} from "./dom.js";
import {clock} from "./format.js";

const LINES_MOST = 200;

export class Log {
    constructor() {
        $("log-only").addEventListener("change", () => this.filter());
    }

    // The server tells its last lines again at each connection.
    clear() {
        $("log").replaceChildren();
        this.filter();
    }

    add({time, level, name, message}) {
        if (level === "debug") return;
        $("log").prepend(
            element(
                "li",
                {"data-level": level},
                element("time", {datetime: time}, clock(time)),
                " ",
                element("span", {class: "level"}, level),
                " ",
                element("span", {class: "name"}, name),
                " ",
                element("span", {class: "message"}, message),
            ),
        );
        while ($("log").children.length > LINES_MOST) $("log").lastElementChild.remove();
        this.filter();
    }

    filter() {
        const only = $("log-only").checked;
        let shown = 0;
        for (const line of $("log").children) {
            line.hidden = only && !["warning", "error"].includes(line.dataset.level);
            shown += line.hidden ? 0 : 1;
        }
        show($("log-empty"), shown === 0);
        show($("log"), shown > 0);
    }
}
