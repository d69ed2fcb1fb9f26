// api.js: the server, as the page speaks with it.

const BASE = "/api/v1/";
const SILENCE_MS = 10000; // progress comes every second: after this the server counts as away
const AGAIN_MS = [500, 1000, 2000, 5000];

// The server refused, or could not be reached (`status` 0). The message says what to do.
export class ApiError extends Error {
    constructor(status, name, message) {
        super(message);
        this.status = status;
        this.name = name;
    }
}

function refusal(status, body) {
    if (status === 401)
        return new ApiError(status, "Unauthorized", "this address is of another process than the one that listens here now");
    return new ApiError(
        status,
        body?.error ?? "HttpError",
        body?.errorDescription ?? `the server answered with HTTP status ${status}`,
    );
}

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

// HMAC-SHA-256 of the nonce under the token, which the server's process alone knows besides us.
async function codeOf(token, nonce) {
    const encode = (text) => new TextEncoder().encode(text);
    const kind = {name: "HMAC", hash: "SHA-256"};
    const key = await crypto.subtle.importKey("raw", encode(token), kind, false, ["sign"]);
    return hex(new Uint8Array(await crypto.subtle.sign("HMAC", key, encode(nonce))));
}

export class Api {
    constructor(token) {
        this.token = token;
        this.proven = false; // that this is the process whose page we are
    }

    // After a break anybody may listen where the server did: nothing is sent, neither the token nor
    // what was typed here, before the process has shown that it knows the token.
    async prove(signal) {
        if (this.proven || !this.token) return;
        if (!crypto.subtle)
            throw new ApiError(401, "Unauthorized", "open the page at 127.0.0.1 or localhost");
        const nonce = hex(crypto.getRandomValues(new Uint8Array(32)));
        const reply = await this.send("GET", `proof?nonce=${nonce}`, {}, undefined, signal);
        const answer = await reply.json().catch(() => null);
        if (answer?.proof !== (await codeOf(this.token, nonce))) throw refusal(401, null);
        this.proven = true;
    }

    async request(method, path, body, signal) {
        await this.prove(signal);
        const headers = this.token ? {Authorization: `Bearer ${this.token}`} : {};
        if (body !== undefined) headers["Content-Type"] = "application/json";
        return this.send(method, path, headers, body, signal);
    }

    async send(method, path, headers, body, signal) {
        try {
            return await fetch(BASE + path, {
                method,
                headers,
                signal,
                cache: "no-store",
                body: body === undefined ? undefined : JSON.stringify(body),
            });
        } catch {
            throw new ApiError(0, "Away", "the Towline server does not answer; check that it runs");
        }
    }

    async ask(method, path, body) {
        const reply = await this.request(method, path, body);
        let answer = null;
        try {
            answer = await reply.json();
        } catch {
            throw refusal(reply.status, null);
        }
        if (!reply.ok || answer.success === false) throw refusal(reply.status, answer);
        return answer;
    }

    get(path) {
        return this.ask("GET", path);
    }

    post(path, body = {}) {
        return this.ask("POST", path, body);
    }

    // Follows the server's events for the life of the page. `on` has: open(), event(name, data),
    // away(error, failures in a row). Ends only when the token is refused.
    async follow(on) {
        for (let failures = 0; ;) {
            try {
                await this.stream(() => {
                    failures = 0;
                    on.open();
                }, on.event);
                throw new ApiError(0, "Away", "the server ended the connection");
            } catch (error) {
                const pause = AGAIN_MS[Math.min(failures++, AGAIN_MS.length - 1)];
                on.away(error, failures);
                if (error.status === 401) return;
                await new Promise((resolve) => setTimeout(resolve, pause));
            }
        }
    }

    async stream(opened, onEvent) {
        const controller = new AbortController();
        let timer = 0;
        const heard = () => {
            clearTimeout(timer);
            timer = setTimeout(() => controller.abort(), SILENCE_MS);
        };
        heard();
        try {
            const reply = await this.request("GET", "events", undefined, controller.signal);
            if (!reply.ok) throw refusal(reply.status, await reply.json().catch(() => null));
            opened();
            const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
            let rest = "";
            for (;;) {
                const {value, done} = await reader.read();
                if (done) return;
                heard();
                const blocks = (rest + value.replaceAll("\r", "")).split("\n\n");
                rest = blocks.pop();
                blocks.forEach((block) => deliver(block, onEvent));
            }
        } finally {
            this.proven = false;
            clearTimeout(timer);
            controller.abort();
        }
    }
}

// One block of lines: event, data, and comments that only keep the connection alive.
function deliver(block, onEvent) {
    let name = "message";
    const data = [];
    for (const line of block.split("\n")) {
        if (line.startsWith("event:")) name = line.slice(6).trim();
        else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
    }
    if (data.length) onEvent(name, JSON.parse(data.join("\n")));
}
