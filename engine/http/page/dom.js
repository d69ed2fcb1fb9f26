// dom.js: the few helpers that the screens are made with. Text is always set as text, never as HTML.

export const $ = (id) => document.getElementById(id);

// attributes: names that hold a function are listeners ("click"); true and false set and leave out.
export function element(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (typeof value === "function") node.addEventListener(name, value);
        else if (value === true) node.setAttribute(name, "");
        else if (value !== false && value !== null && value !== undefined)
            node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
}

// Leaves what is equal alone, so that selections last and screen readers speak of changes only.
export function setText(node, text) {
    const wanted = text ?? "";
    if (node.textContent !== wanted) node.textContent = wanted;
}

export function show(node, shown) {
    node.hidden = !shown;
}

// Sets a <dl> to rows of [term, description], or [term, description, kind]; a null row is left out.
export function setPairs(list, rows) {
    const wanted = rows.filter(Boolean);
    while (list.children.length > wanted.length) list.lastElementChild.remove();
    wanted.forEach(([term, description, kind], index) => {
        let row = list.children[index];
        if (!row) {
            row = element("div", {}, element("dt"), element("dd"));
            list.append(row);
        }
        setText(row.firstElementChild, term);
        setText(row.lastElementChild, description);
        row.lastElementChild.className = kind ?? "";
    });
}

export function setList(list, texts) {
    list.replaceChildren(...texts.map((text) => element("li", {}, text)));
}

// null shows that something goes on without saying how far it is.
export function setBar(bar, part, whole) {
    if (!whole || part === null || part === undefined) bar.removeAttribute("value");
    else bar.value = Math.min(1, part / whole);
}

// Says something to screen readers that the eye sees anyway.
export function announce(text) {
    setText($("announce"), text);
}

// Runs what a button stands for; meanwhile the button cannot be pressed again. What fails is shown in
// `place`, and null is returned.
export async function attempt(button, place, act, busyText) {
    const label = button.textContent,
        hadFocus = document.activeElement === button;
    setText(place, "");
    button.disabled = true;
    if (busyText) setText(button, busyText);
    try {
        return await act();
    } catch (error) {
        setText(place, error.message);
        return null;
    } finally {
        button.disabled = false;
        if (busyText) setText(button, label);
        if (hadFocus && document.activeElement === document.body) button.focus(); // a disabled button loses it
    }
}
