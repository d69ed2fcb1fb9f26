// format.js: figures as people read them. Everything takes null or undefined as "not known yet".

const UNKNOWN = "–";
const numbers = new Intl.NumberFormat("en-US", {maximumFractionDigits: 0});
const moments = new Intl.DateTimeFormat("en-GB", {
    weekday: "short",
    day: "numeric",
    month: "short",
    year: "numeric",
    hour: "2-digit",
    minute: "2-digit",
    timeZoneName: "short",
});
const clocks = new Intl.DateTimeFormat("en-GB", {
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
});

const isKnown = (value) => typeof value === "number" && Number.isFinite(value);

export function count(value) {
    return isKnown(value) ? numbers.format(value) : UNKNOWN;
}

// "1 collection", "2 collections".
export function counted(value, noun) {
    return `${count(value)} ${noun}${value === 1 ? "" : noun.endsWith("x") ? "es" : "s"}`;
}

// Decimal units, as the program prints them: three figures that count.
export function bytes(value) {
    if (!isKnown(value)) return UNKNOWN;
    const units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let unit = 0;
    while (value >= 999.5 && unit < units.length - 1) {
        value /= 1000;
        unit++;
    }
    return `${unit === 0 || value >= 100 ? value.toFixed(0) : value.toPrecision(3)} ${units[unit]}`;
}

export function rate(perSecond, noun) {
    if (!isKnown(perSecond)) return UNKNOWN;
    return noun === "bytes" ? `${bytes(perSecond)}/s` : `${count(perSecond)} ${noun}/s`;
}

// The server's messages begin with a small letter; where they stand alone they do not.
export function sentence(text) {
    return text.charAt(0).toUpperCase() + text.slice(1);
}

// The two largest units: "4 d 23 h", "2 min 5 s", "350 ms".
export function duration(seconds) {
    if (!isKnown(seconds)) return UNKNOWN;
    if (seconds < 0.9995) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
    if (seconds < 9.95) return `${Number.isInteger(seconds) ? seconds : seconds.toFixed(1)} s`;
    const whole = Math.round(seconds);
    const parts = [
        ["d", Math.floor(whole / 86400)],
        ["h", Math.floor(whole / 3600) % 24],
        ["min", Math.floor(whole / 60) % 60],
        ["s", whole % 60],
    ];
    const first = parts.findIndex(([, amount]) => amount > 0);
    return parts
        .slice(first, first + 2)
        .filter(([, amount]) => amount > 0)
        .map(([unit, amount]) => `${amount} ${unit}`)
        .join(" ");
}

// Whether the server takes it as one: "24h", "1d12h", "90m". The server has the last word.
export function isDuration(text) {
    return /^(?=.)(\d+d)?(\d+h)?(\d+m)?(\d+s)?$/.test(text);
}

export function percent(part, whole) {
    if (!isKnown(part) || !isKnown(whole) || whole <= 0) return UNKNOWN;
    // 100 % is said only of what is complete.
    return `${part >= whole ? 100 : Math.min(99, Math.floor((part / whole) * 100))} %`;
}

// A moment of the server ("2026-11-28T12:02:03Z", or milliseconds since 1970) in the reader’s own time.
export function moment(text) {
    const date = new Date(text);
    return Number.isNaN(date.getTime()) ? UNKNOWN : moments.format(date);
}

export function clock(text) {
    const date = new Date(text);
    return Number.isNaN(date.getTime()) ? "" : clocks.format(date);
}
