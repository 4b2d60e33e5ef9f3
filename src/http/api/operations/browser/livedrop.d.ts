/**
 * @typedef {{ id: string, email: string, display_name: string, role: string }} User
 * @typedef {{ drop_id: string, variant_id?: string, quantity: number, payment_method?: string }} OrderRequest
 * @typedef {{ key: string, body: string, at: number }} StoredOrder
 * @typedef {{ order: OrderRequest, result?: any, error?: LiveDropError }} ResumedOrder
 * @typedef {{ access_token: string, refresh_token: string, user: User, renew_at?: number, ends_at?: number }} Login
 * @typedef {{ type: string, id?: string, topic?: string, position?: number, [field: string]: any }} Message
 * @typedef {{ topics: Set<string>, handler: (message: Message) => unknown }} Watcher
 * @typedef {{ code: number, retryMs: number | null, ready: boolean }} Closed
 * @typedef {{ body?: unknown, headers?: Record<string, string> }} RequestOptions
 */
/** A request that was refused (with the server's `code`), or that had no answer (`status` 0). */
export class LiveDropError extends Error {
    /**
     * @param {number} status
     * @param {string} code Stable; the server's, or `unreachable`, `origin_refused`, `order_pending`, `order_too_old`, `storage_failed`.
     * @param {string} detail For people.
     * @param {{ problem?: any, retryAfterMs?: number | null }} [more]
     */
    constructor(status: number, code: string, detail: string, { problem, retryAfterMs }?: {
        problem?: any;
        retryAfterMs?: number | null;
    });
    status: number;
    code: string;
    /** The whole answer (RFC 9457). @type {any} */
    problem: any;
    /** When the server wants to be asked again. @type {number | null} */
    retryAfterMs: number | null;
    /** Of an order: it may have been placed. Its key is kept, so the same order may be tried again. */
    outcomeUnknown: boolean;
}
/**
 * One server. Events (`addEventListener`), each with `detail`:
 * - `login` `{ user }`, `logout` `{ reason }`: `user` (it was asked for), `expired`, `refused`, `revoked`, `elsewhere` (another tab). Once each.
 * - `online` `{ recovered }`, `offline` `{ retryMs }`: the live connection. `recovered` is `false` where snapshots came in place of what was missed.
 * - `stopped` `{ reason, code }`: it does not come back by itself. `origin_refused`, `logout` or `closed`; `connect()` tries again.
 */
export class LiveDrop extends EventTarget {
    /** @param {{ base?: string, storage?: Storage }} [options] `base`: the server, by default the one that this file came from. */
    constructor({ base, storage }?: {
        base?: string;
        storage?: Storage;
    });
    base: string;
    /** Who is logged in, in all tabs of this origin. @returns {User | null} */
    get user(): User | null;
    /** Whether the server's time is known. */
    get synced(): boolean;
    /** The server's time in milliseconds since 1970; before any answer, the device's. @returns {number} */
    now(): number;
    /** Asks the server for its time. @returns {Promise<void>} */
    sync(): Promise<void>;
    /** @param {{ email: string, password: string, display_name: string }} account @returns {Promise<User>} */
    register(account: {
        email: string;
        password: string;
        display_name: string;
    }): Promise<User>;
    /** @param {string} email @param {string} password @returns {Promise<User>} */
    login(email: string, password: string): Promise<User>;
    /** Ends this login in all tabs, and on the server if it can be reached. @returns {Promise<void>} */
    logout(): Promise<void>;
    /**
     * Calls the API, with the login that there is, and answers the body. A token that is refused is renewed once.
     * @param {string} method @param {string} path Below the server, `/api/v1/…`. @param {RequestOptions} [options] @returns {Promise<any>}
     * @throws {LiveDropError}
     */
    request(method: string, path: string, { body, headers }?: RequestOptions): Promise<any>;
    /**
     * Places an order. Its key is stored before it is sent, and stays until the outcome is known: the same order again, be it after a reload or
     * in another tab, is the same order. A second one for a drop is refused (`order_pending`) until then.
     * @param {OrderRequest} order @returns {Promise<any>} The order. @throws {LiveDropError} With `outcomeUnknown` where it may have been placed.
     */
    order(order: OrderRequest): Promise<any>;
    /** Orders of this user whose outcome is not known, maybe from before a reload. @returns {OrderRequest[]} */
    pendingOrders(): OrderRequest[];
    /** Sends those again, each with its key, and answers what became of them. For when a page begins. @returns {Promise<ResumedOrder[]>} */
    resumeOrders(): Promise<ResumedOrder[]>;
    /**
     * Subscribes to topics (`drop:…`, `creator:…`), and to those of the logged-in user: the handler gets events, and `snapshot` messages that
     * replace everything that was known of a topic. Without topics it gets everything. A handler that returns a promise gets the next message
     * when that is settled.
     * @param {string[]} topics @param {(message: Message) => unknown} handler @returns {() => void} Unsubscribes.
     */
    watch(topics: string[], handler: (message: Message) => unknown): () => void;
    /** Connects again after `stopped`, anonymously if nobody is logged in; ends a wait before the next try. */
    connect(): void;
    /** Ends the connection and all timers; the login stays. */
    close(): void;
    /**
     * Calls `tell` with the time left until a moment on the server's clock: at once, at each full second, and with 0 at the end.
     * @param {string | number} until @param {(leftMs: number) => void} tell @returns {() => void} Stops it.
     */
    countdown(until: string | number, tell: (leftMs: number) => void): () => void;
    #private;
}
export type User = {
    id: string;
    email: string;
    display_name: string;
    role: string;
};
export type OrderRequest = {
    drop_id: string;
    variant_id?: string;
    quantity: number;
    payment_method?: string;
};
export type StoredOrder = {
    key: string;
    body: string;
    at: number;
};
export type ResumedOrder = {
    order: OrderRequest;
    result?: any;
    error?: LiveDropError;
};
export type Login = {
    access_token: string;
    refresh_token: string;
    user: User;
    renew_at?: number;
    ends_at?: number;
};
export type Message = {
    type: string;
    id?: string;
    topic?: string;
    position?: number;
    [field: string]: any;
};
export type Watcher = {
    topics: Set<string>;
    handler: (message: Message) => unknown;
};
export type Closed = {
    code: number;
    retryMs: number | null;
    ready: boolean;
};
export type RequestOptions = {
    body?: unknown;
    headers?: Record<string, string>;
};
