/**
 * LiveDrop in a browser: a login that renews itself, live events without gaps, the server's time, and orders that no reload places twice.
 * One file without dependencies, for pages over HTTPS and plain HTTP. How to use it: docs/REALTIME.md.
 * @module livedrop
 */

const API = "/api/v1";
/** For how long an answer is waited for. Longer than the server waits for a payment (`payment_timeout_ms`). */
const ANSWER_MS = 20_000;
/** Waits between tries are random up to this, doubled with each try, and at most the second. */
const BACKOFF_MS = 1_000;
const BACKOFF_MAX_MS = 30_000;
/** A server that asks for more patience than this is left to the caller. */
const RETRY_AFTER_MAX_MS = 30_000;
/** How often an order is sent before its caller hears that the outcome is not known. */
const ORDER_TRIES = 5;
/** The server knows a key for a day; an older order is not sent again, since that might buy a second time. */
const ORDER_KEPT_MS = 23 * 3_600_000;
/** Topics of one session, as the server has it. */
const TOPICS_MAX = 256;
/** Messages that wait for a slow handler; past that the connection is closed, and opened again when they are handled. */
const WAITING_MAX = 256;
/** Drops whose position is remembered. */
const POSITIONS_MAX = 1_024;
/** For how long a tab may hold a lock that is kept in the storage: longer than an answer is waited for. */
const LEASE_MS = ANSWER_MS + 10_000;
/** For how long a lock is kept after its work, so that other tabs see what was stored. */
const SETTLE_MS = 60;
/** A new clock is taken over at once where it differs by more, and otherwise little by little. */
const CLOCK_STEP_MS = 2_000;

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
  constructor(status, code, detail, { problem = null, retryAfterMs = null } = {}) {
    super(detail);
    this.name = "LiveDropError";
    this.status = status;
    this.code = code;
    /** The whole answer (RFC 9457). @type {any} */
    this.problem = problem;
    /** When the server wants to be asked again. @type {number | null} */
    this.retryAfterMs = retryAfterMs;
    /** Of an order: it may have been placed. Its key is kept, so the same order may be tried again. */
    this.outcomeUnknown = false;
  }
}

/** @param {number} ms @returns {Promise<void>} */
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
/** @param {number} tries @returns {number} */
const backoff = (tries) => (0.5 + Math.random() / 2) * Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** Math.min(tries, 10));
/** `crypto.randomUUID` is for HTTPS only, this is not. @returns {string} */
const randomKey = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** @param {string | null} text @returns {any} */
function parsed(text) {
  try {
    return JSON.parse(text ?? "null");
  } catch {
    return null;
  }
}

/** What a page without `localStorage` has: it forgets with the page. @returns {Storage} */
function memory() {
  /** @type {Map<string, string>} */
  const all = new Map();
  return {
    get length() {
      return all.size;
    },
    key: (index) => [...all.keys()][index] ?? null,
    getItem: (name) => all.get(name) ?? null,
    setItem: (name, text) => void all.set(name, text),
    removeItem: (name) => void all.delete(name),
    clear: () => all.clear(),
  };
}

/** @returns {Storage} */
function defaultStorage() {
  try {
    const probe = "livedrop:probe";
    localStorage.setItem(probe, "");
    localStorage.removeItem(probe);
    return localStorage;
  } catch {
    return memory();
  }
}

/**
 * Runs a task while no other tab runs one of that name. Web Locks are for HTTPS only; elsewhere a lease in the storage does, whose holder
 * another tab replaces when it has ended. What two tabs did at once all the same, the server's own rules make good.
 * @template T @param {Storage} storage @param {string} name @param {() => Promise<T>} task @returns {Promise<T>}
 */
function exclusive(storage, name, task) {
  return new Promise((resolve, reject) => {
    const run = async () => {
      await task().then(resolve, reject);
      // What was stored reaches other tabs' copies of the storage a little later.
      await sleep(SETTLE_MS);
    };
    const locks = globalThis.navigator?.locks;
    (locks ? locks.request(name, run) : leased(storage, name, run)).catch(reject);
  });
}

/** @param {Storage} storage @param {string} name @param {() => Promise<void>} run */
async function leased(storage, name, run) {
  const mine = randomKey();
  const holder = () => parsed(storage.getItem(name));
  for (;;) {
    const now = Date.now();
    const lease = holder();
    const free = !lease || lease.until < now || lease.until > now + LEASE_MS;
    if (free) storage.setItem(name, JSON.stringify({ mine, until: now + LEASE_MS }));
    // Time for another tab that saw no lease either: the last to write has it.
    await sleep((0.5 + Math.random() / 2) * SETTLE_MS);
    if (free && holder()?.mine === mine) break;
  }
  await run();
  if (holder()?.mine === mine) storage.removeItem(name);
}

/**
 * The server's time. Each answer bounds it: it was stamped after the request was sent and before the answer came. Between answers it goes on
 * with `performance.now()`, which nobody sets; a better estimate is approached at a tenth of a second a second, so a countdown does not jump.
 */
class ServerClock {
  #low = -Infinity;
  #high = Infinity;
  /** What is added to `performance.now()`. @type {number | null} */
  #shown = null;
  #shownAt = 0;

  get synced() {
    return this.#shown !== null;
  }

  /**
   * @param {number} server Milliseconds since 1970, cut to `resolution`.
   * @param {number} resolution @param {number} sent @param {number} received Both by `performance.now()`.
   */
  sample(server, resolution, sent, received) {
    if (!Number.isFinite(server)) return;
    const [low, high] = [server - received, server + resolution - sent];
    this.#low = Math.max(this.#low, low);
    this.#high = Math.min(this.#high, high);
    // A clock was set, or the device slept.
    if (this.#low > this.#high) [this.#low, this.#high] = [low, high];
    this.now();
  }

  /** @returns {number} */
  now() {
    const at = performance.now();
    const best = (this.#low + this.#high) / 2;
    if (Number.isFinite(best)) {
      const behind = best - (this.#shown ?? Infinity);
      const step = (at - this.#shownAt) / 10;
      this.#shown = Math.abs(behind) <= CLOCK_STEP_MS ? (this.#shown ?? 0) + Math.max(-step, Math.min(step, behind)) : best;
    }
    this.#shownAt = at;
    return this.#shown === null ? Date.now() : at + this.#shown;
  }
}

/**
 * One server. Events (`addEventListener`), each with `detail`:
 * - `login` `{ user }`, `logout` `{ reason }`: `user` (it was asked for), `expired`, `refused`, `revoked`, `elsewhere` (another tab). Once each.
 * - `online` `{ recovered }`, `offline` `{ retryMs }`: the live connection. `recovered` is `false` where snapshots came in place of what was missed.
 * - `stopped` `{ reason, code }`: it does not come back by itself. `origin_refused`, `logout` or `closed`; `connect()` tries again.
 */
export class LiveDrop extends EventTarget {
  /** @type {Storage} */ #storage;
  #prefix;
  #clock = new ServerClock();
  /** The user of the last `login` event. @type {User | null} */ #user = null;
  /** @type {Promise<"renewed" | "kept" | "ended"> | null} */ #renewing = null;
  /** Before that time (`performance.now()`) the server is not asked for another token. */ #renewNotBefore = 0;
  #renewTries = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #renewTimer;
  /** Orders under way in this tab, by the name under which they are stored. @type {Map<string, { body: string, done: Promise<any> }>} */
  #ordering = new Map();
  /** @type {Set<Watcher>} */ #watchers = new Set();
  /** The id to come back with. @type {string | null} */ #last = null;
  /** @type {Map<string, number>} */ #positions = new Map();
  /** @type {WebSocket | null} */ #socket = null;
  /** Topics that the socket has. @type {Set<string>} */ #joined = new Set();
  #running = false;
  #stopped = false;
  #closed = false;
  /** Ends the wait before the next connection, or the connection. @type {() => void} */ #hangUp = () => {};
  /** The access token that the connection has. @type {string | null} */ #token = null;
  /** @type {Message[]} */ #waiting = [];
  /** @type {Promise<void> | null} */ #handling = null;
  /** How long to wait where a close does not say. */ #reconnect = { min_ms: 500, max_ms: 1_500 };
  /** @type {(event: StorageEvent) => void} */ #onStorage;

  /** @param {{ base?: string, storage?: Storage }} [options] `base`: the server, by default the one that this file came from. */
  constructor({ base = new URL(import.meta.url).origin, storage = defaultStorage() } = {}) {
    super();
    this.base = base.replace(/\/+$/, "");
    this.#storage = storage;
    this.#prefix = `livedrop:${this.base}:`;
    this.#user = this.#login?.user ?? null;
    this.#onStorage = (event) => {
      if (event.key === this.#name("login") || event.key === null) this.#loginChanged("elsewhere");
    };
    globalThis.addEventListener?.("storage", this.#onStorage);
    this.#scheduleRenewal();
  }

  /** Who is logged in, in all tabs of this origin. @returns {User | null} */
  get user() {
    return this.#user;
  }

  /** Whether the server's time is known. */
  get synced() {
    return this.#clock.synced;
  }

  /** The server's time in milliseconds since 1970; before any answer, the device's. @returns {number} */
  now() {
    return this.#clock.now();
  }

  /** Asks the server for its time. @returns {Promise<void>} */
  async sync() {
    await this.#fetch("GET", "/healthz");
  }

  /** @param {{ email: string, password: string, display_name: string }} account @returns {Promise<User>} */
  async register(account) {
    return this.#keep(await this.#fetch("POST", `${API}/auth/register`, { body: account }));
  }

  /** @param {string} email @param {string} password @returns {Promise<User>} */
  async login(email, password) {
    return this.#keep(await this.#fetch("POST", `${API}/auth/login`, { body: { email, password } }));
  }

  /** Ends this login in all tabs, and on the server if it can be reached. @returns {Promise<void>} */
  async logout() {
    const login = this.#login;
    if (!login) return;
    this.#end("user", login.access_token);
    await this.#fetch("POST", `${API}/auth/logout`, { body: { refresh_token: login.refresh_token } }).catch(() => {});
  }

  /**
   * Calls the API, with the login that there is, and answers the body. A token that is refused is renewed once.
   * @param {string} method @param {string} path Below the server, `/api/v1/…`. @param {RequestOptions} [options] @returns {Promise<any>}
   * @throws {LiveDropError}
   */
  async request(method, path, { body, headers = {} } = {}) {
    for (let renewed = false; ; renewed = true) {
      const token = await this.#current();
      const all = token === null ? headers : { ...headers, authorization: `Bearer ${token}` };
      try {
        return await this.#fetch(method, path, { body, headers: all });
      } catch (error) {
        if (token === null || !isTokenRefused(error)) throw error;
        // The server refuses its own new token: that login is over.
        if (renewed) this.#end("refused", token);
        if (renewed || !(await this.#replace(token, error.code))) throw error;
      }
    }
  }

  /**
   * Places an order. Its key is stored before it is sent, and stays until the outcome is known: the same order again, be it after a reload or
   * in another tab, is the same order. A second one for a drop is refused (`order_pending`) until then.
   * @param {OrderRequest} order @returns {Promise<any>} The order. @throws {LiveDropError} With `outcomeUnknown` where it may have been placed.
   */
  async order(order) {
    const user = this.#user;
    if (!user) throw new LiveDropError(401, "unauthenticated", "Log in first");
    const [name, body] = [this.#name(`order:${user.id}:${order.drop_id}`), JSON.stringify(order)];
    const pending = () => new LiveDropError(409, "order_pending", "The outcome of another order for this drop is not known yet");
    const running = this.#ordering.get(name);
    if (running) {
      if (running.body !== body) throw pending();
      return running.done;
    }
    const begin = async () => {
      // How old a key is follows from the server's time alone.
      if (!this.synced) await this.sync();
      const stored = await exclusive(this.#storage, `${name}:lock`, async () => {
        const known = /** @type {StoredOrder | null} */ (parsed(this.#storage.getItem(name)));
        if (known && !this.#isTooOld(known)) return known;
        return this.#store(name, { key: randomKey(), body, at: this.now() });
      });
      if (stored.body !== body) throw pending();
      return this.#settle(name, stored);
    };
    const done = begin().finally(() => this.#ordering.delete(name));
    this.#ordering.set(name, { body, done });
    return done;
  }

  /** Orders of this user whose outcome is not known, maybe from before a reload. @returns {OrderRequest[]} */
  pendingOrders() {
    return this.#pending().map(([, stored]) => parsed(stored.body));
  }

  /** Sends those again, each with its key, and answers what became of them. For when a page begins. @returns {Promise<ResumedOrder[]>} */
  async resumeOrders() {
    const resume = async (/** @type {[string, StoredOrder]} */ [name, stored]) => {
      const order = /** @type {OrderRequest} */ (parsed(stored.body));
      try {
        if (!this.synced) await this.sync();
        if (this.#isTooOld(stored)) {
          this.#storage.removeItem(name);
          throw new LiveDropError(0, "order_too_old", "It is too late to ask for the outcome: see the list of orders");
        }
        return { order, result: await this.order(order) };
      } catch (error) {
        return { order, error: /** @type {LiveDropError} */ (error) };
      }
    };
    return Promise.all(this.#pending().map(resume));
  }

  /**
   * Subscribes to topics (`drop:…`, `creator:…`), and to those of the logged-in user: the handler gets events, and `snapshot` messages that
   * replace everything that was known of a topic. Without topics it gets everything. A handler that returns a promise gets the next message
   * when that is settled.
   * @param {string[]} topics @param {(message: Message) => unknown} handler @returns {() => void} Unsubscribes.
   */
  watch(topics, handler) {
    const watcher = { topics: new Set(topics), handler };
    if (new Set([...this.#topics(), ...topics]).size > TOPICS_MAX) throw new RangeError(`at most ${TOPICS_MAX} topics`);
    this.#watchers.add(watcher);
    this.#retopic();
    this.#stopped = false;
    if (!this.#running) void this.#run();
    return () => {
      this.#watchers.delete(watcher);
      this.#retopic();
      if (this.#watchers.size === 0) this.#hangUp();
    };
  }

  /** Connects again after `stopped`, anonymously if nobody is logged in; ends a wait before the next try. */
  connect() {
    this.#stopped = false;
    this.#hangUp();
    if (!this.#running && this.#watchers.size > 0) void this.#run();
  }

  /** Ends the connection and all timers; the login stays. */
  close() {
    this.#closed = true;
    globalThis.removeEventListener?.("storage", this.#onStorage);
    clearTimeout(this.#renewTimer);
    this.#watchers.clear();
    this.#stop();
  }

  /**
   * Calls `tell` with the time left until a moment on the server's clock: at once, at each full second, and with 0 at the end.
   * @param {string | number} until @param {(leftMs: number) => void} tell @returns {() => void} Stops it.
   */
  countdown(until, tell) {
    const end = typeof until === "number" ? until : Date.parse(until);
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    let over = false;
    const tick = async (tries = 0) => {
      if (!this.synced) await this.sync().catch(() => {});
      if (over) return;
      if (!this.synced) return void (timer = setTimeout(tick, backoff(tries), tries + 1));
      const left = Math.max(0, end - this.now());
      if (left > 0) timer = setTimeout(tick, Math.min(left, Math.max(50, left % 1_000)) + 1);
      tell(left);
    };
    void tick();
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }

  // Requests.

  /** @param {string} method @param {string} path @param {RequestOptions} [options] @returns {Promise<any>} The body. */
  async #fetch(method, path, { body, headers = {} } = {}) {
    const sent = performance.now();
    const all = body === undefined ? headers : { ...headers, "content-type": "application/json" };
    let response, text;
    try {
      const signal = AbortSignal.timeout(ANSWER_MS);
      // Not from a cache: its `Date` would be of another time.
      response = await fetch(this.base + path, { method, headers: all, body: JSON.stringify(body), signal, cache: "no-store" });
      this.#clock.sample(Date.parse(response.headers.get("date") ?? ""), 1_000, sent, performance.now());
      text = await response.text();
    } catch (error) {
      throw await this.#unreachable(error);
    }
    const data = parsed(text);
    if (response.ok) return data;
    const seconds = Number(response.headers.get("retry-after") ?? NaN);
    const retryAfterMs = Number.isFinite(seconds) ? seconds * 1_000 : null;
    const code = data?.code ?? `http_${response.status}`;
    throw new LiveDropError(response.status, code, data?.detail ?? response.statusText, { problem: data, retryAfterMs });
  }

  /** Why there was no answer: browsers do not tell a server that is away from one that refuses this origin. @param {unknown} cause */
  async #unreachable(cause) {
    const here = globalThis.location?.origin;
    /** @param {RequestMode} mode */
    const answers = (mode) =>
      fetch(`${this.base}/healthz`, { mode, cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) }).then(() => true, () => false);
    // The last look is for a server that starts at this moment.
    const refused = here && here !== this.base && cause instanceof TypeError && (await answers("no-cors")) && !(await answers("cors")) && (await answers("no-cors"));
    return refused
      ? new LiveDropError(0, "origin_refused", `The server refuses pages of ${here}: its setting allowed_origins does not have it`)
      : new LiveDropError(0, "unreachable", `No answer: ${cause}`);
  }

  // The login.

  /** @param {string} name */
  #name(name) {
    return this.#prefix + name;
  }

  /** @returns {Login | null} */
  get #login() {
    return parsed(this.#storage.getItem(this.#name("login")));
  }

  /** @param {any} signedIn @returns {User} */
  #keep({ access_token, refresh_token, expires_in, user }) {
    // A fifth of its time is left for trying again, and the second that the server's times are cut to.
    const renewIn = Math.max(expires_in * 800 - 1_000, expires_in * 400);
    const times = this.synced ? { renew_at: this.now() + renewIn, ends_at: this.now() + expires_in * 1_000 } : {};
    const login = { access_token, refresh_token, user, ...times };
    this.#storage.setItem(this.#name("login"), JSON.stringify(login));
    this.#renewTries = 0;
    this.#renewNotBefore = 0;
    this.#loginChanged("elsewhere");
    return user;
  }

  /** The stored login has changed. @param {string} reason Of the `logout` event, if there is none now. */
  #loginChanged(reason) {
    const [before, login] = [this.#user, this.#login];
    this.#user = login?.user ?? null;
    this.#scheduleRenewal();
    if (before && before.id !== this.#user?.id) {
      this.#last = null;
      this.#stop("logout");
      this.#tell("logout", { reason });
    }
    if (!login) return;
    if (before?.id !== login.user.id) {
      this.#tell("login", { user: login.user });
      this.connect();
    } else if (this.#send({ op: "auth", token: login.access_token })) {
      // The connection goes on with the new token.
      this.#token = login.access_token;
    }
  }

  /** Ends the login that has this token, with one `logout` event. @param {string} reason @param {string} token */
  #end(reason, token) {
    if (this.#login?.access_token !== token) return;
    this.#storage.removeItem(this.#name("login"));
    this.#loginChanged(reason);
  }

  /** The token to use. A timer renews it in time; one that ended while the device slept is renewed first. @returns {Promise<string | null>} */
  async #current() {
    const login = this.#login;
    const ended = login?.ends_at && this.now() >= login.ends_at && performance.now() >= this.#renewNotBefore;
    if (ended) await this.#renew(login.access_token);
    return this.#login?.access_token ?? null;
  }

  /** Replaces a refused token; `false` if there is no other. @param {string} token @param {string} code */
  async #replace(token, code) {
    const login = this.#login;
    if (login && login.access_token !== token) return true;
    if (code === "token_revoked") this.#end("revoked", token);
    else if (login) return (await this.#renew(token)) === "renewed";
    return false;
  }

  /** Exchanges the refresh token, in one tab at a time. @param {string} token The access token that is to be replaced. */
  #renew(token) {
    const asked = performance.now();
    this.#renewing ??= exclusive(this.#storage, this.#name("renewal"), () => this.#renewAlone(token, asked)).finally(() => {
      this.#renewing = null;
      this.#scheduleRenewal();
    });
    return this.#renewing;
  }

  /** @param {string} token @param {number} asked @returns {Promise<"renewed" | "kept" | "ended">} */
  async #renewAlone(token, asked) {
    // Another tab had the lock: wait for the token that it stored.
    const until = performance.now() - asked > 2 * SETTLE_MS ? performance.now() + 10 * SETTLE_MS : 0;
    while (performance.now() < until && this.#login?.access_token === token) await sleep(SETTLE_MS / 4);
    const login = this.#login;
    if (!login) return "ended";
    if (login.access_token !== token) return "renewed";
    if (performance.now() < this.#renewNotBefore) return "kept";
    try {
      const renewed = await this.#fetch("POST", `${API}/auth/refresh`, { body: { refresh_token: login.refresh_token } });
      if (this.#login?.refresh_token === login.refresh_token) this.#keep(renewed);
      return this.#login ? "renewed" : "ended";
    } catch (error) {
      const { status, retryAfterMs } = /** @type {LiveDropError} */ (error);
      if (status === 400 || status === 401) {
        this.#end("expired", token);
        return "ended";
      }
      // While the server cannot renew tokens it accepts the present one.
      this.#renewNotBefore = performance.now() + (retryAfterMs ?? backoff(this.#renewTries++));
      return "kept";
    }
  }

  #scheduleRenewal() {
    clearTimeout(this.#renewTimer);
    const login = this.#login;
    if (!login?.renew_at || this.#closed) return;
    const wait = Math.max(login.renew_at - this.now(), this.#renewNotBefore - performance.now(), 0);
    this.#renewTimer = setTimeout(() => void this.#renew(login.access_token), Math.min(wait, 2 ** 31 - 1));
  }

  // Orders.

  /** @param {StoredOrder} stored */
  #isTooOld({ at }) {
    return Math.abs(this.now() - at) > ORDER_KEPT_MS;
  }

  /** @param {string} name @param {StoredOrder} stored */
  #store(name, stored) {
    try {
      this.#storage.setItem(name, JSON.stringify(stored));
    } catch (error) {
      throw new LiveDropError(0, "storage_failed", `The order was not sent, since its key cannot be stored: ${error}`);
    }
    return stored;
  }

  /** @returns {[string, StoredOrder][]} */
  #pending() {
    const begin = this.#name(`order:${this.#user?.id}:`);
    const names = Array.from({ length: this.#storage.length }, (_, index) => this.#storage.key(index) ?? "");
    const ours = names.filter((name) => this.#user && name.startsWith(begin) && !name.endsWith(":lock"));
    return ours.map((name) => /** @type {[string, StoredOrder]} */ ([name, parsed(this.#storage.getItem(name))])).filter(([, one]) => one);
  }

  /** Sends an order until its outcome is known, a few times at most. @param {string} name @param {StoredOrder} stored */
  async #settle(name, { key, body }) {
    for (let tries = 1; ; tries++) {
      try {
        const order = await this.request("POST", `${API}/orders`, { body: parsed(body), headers: { "idempotency-key": key } });
        this.#forget(name, key);
        return order;
      } catch (thrown) {
        const error = /** @type {LiveDropError} */ (thrown);
        error.outcomeUnknown = isOutcomeUnknown(error);
        if (!error.outcomeUnknown) this.#forget(name, key);
        const wait = error.retryAfterMs ?? backoff(tries);
        const again = error.outcomeUnknown && error.status !== 401 && error.code !== "origin_refused" && tries < ORDER_TRIES;
        if (!again || wait > RETRY_AFTER_MAX_MS) throw error;
        await sleep(wait);
      }
    }
  }

  /** @param {string} name @param {string} key */
  #forget(name, key) {
    if (parsed(this.#storage.getItem(name))?.key === key) this.#storage.removeItem(name);
  }

  // The live connection.

  /** @param {string} type @param {object} detail */
  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** @returns {Set<string>} */
  #topics() {
    return new Set([...this.#watchers].flatMap((watcher) => [...watcher.topics]));
  }

  /** @param {object} message @returns {boolean} Whether there is a connection to send it on. */
  #send(message) {
    const open = this.#socket?.readyState === WebSocket.OPEN;
    if (open) this.#socket?.send(JSON.stringify(message));
    return open;
  }

  /** Tells an open session which topics have come and gone. */
  #retopic() {
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    const wanted = this.#topics();
    const [more, fewer] = [[...wanted].filter((topic) => !this.#joined.has(topic)), [...this.#joined].filter((topic) => !wanted.has(topic))];
    if (fewer.length > 0) this.#send({ op: "unsubscribe", topics: fewer });
    if (more.length > 0) this.#send({ op: "subscribe", topics: more });
    this.#joined = wanted;
  }

  /** @param {string} [reason] @param {number} [code] */
  #stop(reason = "closed", code) {
    const running = this.#running && !this.#stopped;
    this.#stopped = true;
    this.#hangUp();
    if (running) this.#tell("stopped", { reason, code });
  }

  /** Connects, and comes back whenever the connection is lost, for as long as somebody watches. */
  async #run() {
    this.#running = true;
    for (let tries = 0, renewed = false; this.#isWanted(); ) {
      /** @type {number | null} */
      let wait = null;
      try {
        const { code, retryMs, ready } = await this.#session();
        // What waits is handled before the rest is asked for.
        while (this.#handling) await this.#handling;
        if (ready) [tries, renewed] = [0, false];
        if (!this.#isWanted()) break;
        // 1000: this client hung up, to begin anew.
        wait = code === 1000 ? 0 : retryMs;
        const token = this.#token;
        if (code === 4403 && token) this.#end("revoked", token);
        else if (code === 4401 && token) {
          // The server refuses its own new token: that login is over.
          if (renewed) this.#end("refused", token);
          else if (await this.#replace(token, "")) [renewed, wait] = [true, 0];
        } else if (isFinal(code)) this.#stop("closed", code);
        // Too many sessions: another tab, which the user looks at, has the connection now.
        else if (code === 4001) await visible();
        // Browsers do not say why an upgrade was refused.
        else if (!ready && code === 1006) await this.sync();
      } catch (thrown) {
        const error = /** @type {LiveDropError} */ (thrown);
        if (error.code === "origin_refused") this.#stop("origin_refused");
        wait = error.retryAfterMs ?? null;
      }
      if (!this.#isWanted()) break;
      const { min_ms, max_ms } = this.#reconnect;
      wait ??= tries === 0 ? min_ms + Math.random() * (max_ms - min_ms) : backoff(tries);
      tries++;
      this.#tell("offline", { retryMs: wait });
      const woken = new Promise((resolve) => (this.#hangUp = () => resolve(undefined)));
      await Promise.race([sleep(wait), woken]);
    }
    this.#running = false;
  }

  #isWanted() {
    return !this.#stopped && this.#watchers.size > 0;
  }

  /** One connection, until it is closed. @returns {Promise<Closed>} */
  async #session() {
    const query = new URLSearchParams();
    this.#token = null;
    if (this.#login) {
      const user = this.#user;
      query.set("ticket", (await this.request("POST", `${API}/notifications/ticket`)).ticket);
      this.#token = this.#login?.access_token ?? null;
      if (!this.#isWanted() || user?.id !== this.#user?.id) return { code: 1000, retryMs: null, ready: false };
    }
    const opened = performance.now();
    const topics = (this.#joined = this.#topics());
    if (topics.size > 0) query.set("topics", [...topics].join(","));
    if (this.#last) query.set("since", this.#last);
    const socket = new WebSocket(`${this.base.replace(/^http/, "ws")}${API}/notifications?${query}`);
    this.#socket = socket;
    let [ready, heard] = [false, opened];
    /** @type {ReturnType<typeof setInterval> | undefined} */
    let heartbeat;
    return new Promise((resolve) => {
      const end = (/** @type {number} */ code, reason = "") => {
        clearInterval(heartbeat);
        socket.onmessage = socket.onclose = null;
        if (this.#socket === socket) this.#socket = null;
        socket.close();
        const retryMs = parsed(reason)?.retry_ms;
        resolve({ code, retryMs: Number.isFinite(retryMs) ? retryMs : null, ready });
      };
      this.#hangUp = () => end(1000);
      socket.onclose = ({ code, reason }) => end(code, reason);
      socket.onmessage = ({ data }) => {
        heard = performance.now();
        const message = /** @type {Message | null} */ (parsed(data));
        if (!message) return;
        if (message.server_time) this.#clock.sample(Date.parse(message.server_time), 1, opened, heard);
        if (message.type === "hello") {
          this.#reconnect = message.reconnect ?? this.#reconnect;
          // Browsers do not show the server's pings, so a dead network is found by asking.
          const every = message.heartbeat_ms ?? 25_000;
          heartbeat = setInterval(() => (performance.now() - heard > 2 * every ? end(1006) : this.#send({ op: "ping" })), every);
          this.#retopic();
        } else if (message.type !== "pong") {
          if (!ready && (message.type === "subscribed" || message.type === "authenticated")) {
            ready = true;
            this.#tell("online", { recovered: isRecovered(message) });
          }
          // Too slow: the server sends the rest again, after those that wait are handled.
          if (this.#waiting.length >= WAITING_MAX) return end(1006);
          this.#waiting.push(message);
          this.#pump();
        }
      };
    });
  }

  #pump() {
    this.#handling ??= this.#handle().finally(() => {
      this.#handling = null;
      if (this.#waiting.length > 0) this.#pump();
    });
  }

  /** Calls the handlers with the waiting messages, in order. */
  async #handle() {
    for (let message = this.#waiting[0]; message; message = /** @type {Message} */ (this.#waiting[0])) {
      if (this.#isNew(message)) {
        const topics = this.#topics();
        const names = [message.topic ?? "", `drop:${message.drop_id}`, `creator:${message.creator_id}`];
        // What nobody asked for by name is for all: a buyer's own orders, followed creators, answers.
        const isForAll = message.topic?.startsWith("user:") || !names.some((name) => topics.has(name));
        for (const { handler, topics } of [...this.#watchers]) {
          if (!isForAll && topics.size > 0 && !names.some((name) => topics.has(name))) continue;
          try {
            const slow = /** @type {any} */ (handler(message));
            if (typeof slow?.then === "function") await slow;
          } catch (error) {
            // An error of one handler does not keep messages from the others.
            globalThis.reportError?.(error);
          }
        }
      }
      if (message.id) this.#last = message.id;
      this.#waiting.shift();
    }
  }

  /** After a restart a `stock_changed` may come again. @param {Message} message */
  #isNew({ type, position, drop_id, drops }) {
    if (typeof position !== "number") return true;
    if (type === "stock_changed" && position <= (this.#positions.get(drop_id) ?? -1)) return false;
    for (const drop of type === "snapshot" ? (drops ?? []) : drop_id ? [{ drop_id }] : []) {
      this.#positions.delete(drop.drop_id);
      this.#positions.set(drop.drop_id, position);
      if (this.#positions.size > POSITIONS_MAX) this.#positions.delete(this.#positions.keys().next().value ?? "");
    }
    return true;
  }
}

/** @param {any} error @returns {error is LiveDropError} */
const isTokenRefused = (error) => error?.status === 401 && ["unauthenticated", "token_expired", "token_revoked"].includes(error.code);

/** Whether an order may have been placed, or may be yet. @param {LiveDropError} error */
const isOutcomeUnknown = ({ status, code }) =>
  status === 0 || status >= 500 || status === 401 || status === 408 || ["request_in_progress", "payment_in_progress", "rate_limited"].includes(code);

/** Close codes after which another try would end the same way. @param {number} code */
const isFinal = (code) => [1002, 1003, 1007, 1009].includes(code) || (code >= 4400 && code < 4500 && code !== 4401);

/** @param {Message} message */
const isRecovered = (message) => message.recovered !== false && !(message.topics ?? []).some((/** @type {any} */ topic) => topic.recovered === false);

/** Waits until somebody sees this page. @returns {Promise<void>} */
const visible = () =>
  new Promise((resolve) => {
    const look = () => {
      if (globalThis.document?.visibilityState === "hidden") return;
      globalThis.document?.removeEventListener("visibilitychange", look);
      resolve();
    };
    globalThis.document?.addEventListener("visibilitychange", look);
    look();
  });
