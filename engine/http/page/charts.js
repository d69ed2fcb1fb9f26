// charts.js: what progress says over time, as small charts of one line each.
import uPlot from "./uplot/uPlot.esm.js";
import {$, element, setText} from "./dom.js";
import {bytes, count, duration, rate} from "./format.js";

const SAMPLES_MOST = 3600; // then every second one is dropped: the past grows coarser, not shorter
const RATE_SECONDS = 5; // rates are means over at least this long

const SPAN_SECONDS = 60; // the least that the time axis spans

// `least` is the least that the other axis spans, so that nothing much looks like nothing much.
const SERIES = [
    {key: "lag", title: "Lag", text: duration, least: 1},
    {key: "copy", title: "Copy", text: (value) => rate(value, "bytes"), axis: bytes, least: 1e6},
    {
        key: "events",
        title: "Changes applied",
        text: (value) => rate(value, "events"),
        axis: count,
        least: 10,
    },
    {key: "dirty", title: "Dirty keys", text: count, least: 10},
];

// What was seen since the page was opened. A counter that falls (the server was started anew) begins
// a new series of rates.
export class History {
    constructor() {
        this.samples = [];
    }

    add(progress, seconds) {
        const counters = {
            copied: progress.collectionCopy?.estimatedCopiedBytes ?? 0,
            applied: progress.totalEventsApplied ?? 0,
        };
        const last = this.samples.at(-1);
        if (last && seconds <= last.time) return;
        const from =
            this.samples.findLast((sample) => sample.time <= seconds - RATE_SECONDS) ??
            this.samples[0];
        const per = (name) => {
            const grown = from ? counters[name] - from[name] : 0;
            return from && grown >= 0 && seconds - from.time >= 1
                ? grown / (seconds - from.time)
                : null;
        };
        this.samples.push({
            time: seconds,
            ...counters,
            copy: per("copied"),
            events: per("applied"),
            lag: typeof progress.lagMs === "number" ? progress.lagMs / 1000 : null,
            dirty: progress.dirtyKeys ?? null,
        });
        if (this.samples.length > SAMPLES_MOST)
            this.samples = this.samples.filter(
                (sample, index) => index % 2 === 0 || index > SAMPLES_MOST / 2,
            );
    }

    last() {
        return this.samples.at(-1) ?? {};
    }

    columns(key) {
        return [
            this.samples.map((sample) => sample.time),
            this.samples.map((sample) => sample[key]),
        ];
    }
}

function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function make(series, box) {
    const axis = {
        stroke: () => colour("--muted"),
        ticks: {show: false},
        font: "12px system-ui, sans-serif",
        grid: {stroke: () => colour("--line"), width: 1},
    };
    return new uPlot(
        {
            width: Math.max(120, box.clientWidth),
            height: 130,
            cursor: {show: false},
            legend: {show: false},
            padding: [8, 30, 0, 0],
            scales: {
                x: {range: (plot, first, last) => [Math.min(first, last - SPAN_SECONDS), last]},
                y: {range: (plot, least, most) => [0, Math.max(most * 1.1, series.least)]},
            },
            axes: [
                {
                    ...axis,
                    grid: {show: false},
                    size: 24,
                    space: 70,
                    values: [
                        [60, "{HH}:{mm}", null, null, null, null, null, null, 1],
                        [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1],
                    ],
                },
                {
                    ...axis,
                    size: 64,
                    space: 36,
                    values: (plot, ticks) =>
                        ticks.map((tick) =>
                            tick === 0 ? "0" : (series.axis ?? series.text)(tick),
                        ),
                },
            ],
            series: [
                {},
                {
                    stroke: () => colour("--accent"),
                    fill: () => colour("--accent-soft"),
                    width: 1.5,
                    points: {show: false},
                },
            ],
        },
        [[], []],
        box,
    );
}

export class Charts {
    constructor() {
        this.charts = SERIES.map((series) => {
            const value = element("span", {class: "chart-value"});
            const box = element("div", {class: "plot", role: "img"});
            $("charts").append(
                element(
                    "figure",
                    {class: "chart"},
                    element("figcaption", {}, series.title, " ", value),
                    box,
                ),
            );
            return {series, value, box, plot: null};
        });
        this.watchSize = new ResizeObserver((entries) =>
            entries.forEach((entry) => this.resize(entry.target)),
        );
        this.charts.forEach(({box}) => this.watchSize.observe(box));
        matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
            this.charts.forEach(({plot}) => plot?.redraw(false)),
        );
    }

    resize(box) {
        const chart = this.charts.find((item) => item.box === box);
        if (chart?.plot && box.clientWidth > 0)
            chart.plot.setSize({width: box.clientWidth, height: 130});
    }

    render(history) {
        for (const chart of this.charts) {
            const {series, value, box} = chart;
            const text = series.text(history.last()[series.key]);
            setText(value, text);
            box.setAttribute("aria-label", `${series.title}, now ${text}`);
            if (!chart.plot && box.clientWidth > 0) chart.plot = make(series, box);
            chart.plot?.setData(history.columns(series.key));
        }
    }
}
