//! `livedrop.js` in a real Chromium: pages of the server's own origin, of another origin, and over plain HTTP, where
//! browsers disable many APIs.

use crate::chromium::{Chromium, Page};
use crate::server::{Account, Server, Setup, answer, problem};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Loads the client into a page, and records its messages.
async fn load(page: &Page<'_>, server: &Server) {
    let begin = format!(
        "const {{ LiveDrop, LiveDropError }} = await import('{base}/livedrop.js');
         globalThis.live = new LiveDrop();
         globalThis.told = [];
         globalThis.heard = [];
         for (const type of ['login', 'logout', 'online', 'offline', 'stopped'])
           live.addEventListener(type, ({{ detail }}) => told.push({{ type, ...detail }}));
         globalThis.asked = (path) => performance.getEntriesByType('resource').filter(({{ name }}) => name.endsWith(path)).length;
         globalThis.failure = (promise) => promise.then((value) => ({{ value }}), ({{ status, code, outcomeUnknown }}) => ({{ status, code, outcomeUnknown }}));
         performance.setResourceTimingBufferSize(10000);",
        base = server.base
    );
    page.run(&begin).await;
}

/// A server that allows pages of those origins, with tokens of this lifetime in seconds.
async fn server(origins: &str, token_seconds: u32) -> Server {
    let seconds = token_seconds.to_string();
    let options = ["--allowed-origins", origins, "--access-token-seconds", &seconds, "--rate-limits", "off"];
    Server::with(None, &options).await
}

async fn log_in(page: &Page<'_>, who: &Account) {
    page.run(&format!("await live.login('{}', 'correct horse')", who.email)).await;
}

async fn restock(server: &Server, maker: &Account, drop: &str) {
    // The creator's own token may have expired.
    let login = json!({"email": maker.email, "password": "correct horse"});
    let (status, session) = server.post("/auth/login", None, login).await;
    assert_eq!(status, 200, "{session}");
    let token = session["access_token"].as_str().expect("a token").to_owned();
    let maker = Account { token, id: maker.id.clone(), refresh: String::new(), email: maker.email.clone() };
    let (status, answer) = server.post(&format!("/drops/{drop}/restock"), Some(&maker), json!({"quantity": 1})).await;
    assert_eq!(status, 200, "{answer}");
}

/// Watches a drop; its events are in `heard`.
async fn watch(page: &Page<'_>, drop: &str) {
    page.run(&format!("globalThis.unwatch = live.watch(['drop:{drop}'], (message) => void heard.push(message))")).await;
    page.until("told.some(({ type }) => type === 'online')").await;
}

const TOTALS: &str = "heard.filter(({ type }) => type === 'restocked').map(({ stock }) => stock.total)";

/// A login, an expired token, its renewal in an open session; then a crash of the server without a lost event.
async fn a_day_of(page: &Page<'_>, server: &mut Server) {
    load(page, server).await;
    let (maker, drop) = server.live_drop(5, json!({})).await;
    let buyer = server.account("buyer").await;
    log_in(page, &buyer).await;
    watch(page, &drop).await;
    let first = page.run("return localStorage.getItem(`livedrop:${live.base}:login`)").await;
    restock(server, &maker, &drop).await;
    page.until(&format!("{TOTALS}.length === 1")).await;
    // The token expires, and the session continues with the next one.
    page.until("asked('/auth/refresh') >= 2").await;
    let second = page.run("return localStorage.getItem(`livedrop:${live.base}:login`)").await;
    assert_ne!(first, second);
    restock(server, &maker, &drop).await;
    page.until(&format!("{TOTALS}.length === 2")).await;
    assert_eq!(page.run("return told.map(({ type }) => type)").await, json!(["login", "online"]));
    assert_eq!(page.run("return asked('/notifications/ticket')").await, 1);

    server.kill();
    server.restart();
    restock(server, &maker, &drop).await;
    page.until(&format!("{TOTALS}.length === 3")).await;
    restock(server, &maker, &drop).await;
    page.until(&format!("{TOTALS}.length === 4")).await;
    assert_eq!(page.run(&format!("return {TOTALS}")).await, json!([6, 7, 8, 9]));
    assert_eq!(page.run("return told.at(-1)").await, json!({"type": "online", "recovered": true}));
    assert_eq!(page.run("return live.user.email").await, json!(buyer.email));
    // Without watchers there is no connection.
    page.run("unwatch(); heard.length = 0").await;
    restock(server, &maker, &drop).await;
    assert_eq!(page.run("await new Promise((go) => setTimeout(go, 300)); return heard.length").await, 0);
}

#[tokio::test]
async fn a_login_lives_on_and_no_event_is_missed() {
    let browser = Chromium::start().await;
    for host in ["127.0.0.1", "shop.test"] {
        let origin = browser.origin(host);
        let mut server = server(&origin, 5).await;
        let page = browser.open(host, &origin, "").await;
        let secure = page.run("return isSecureContext && !!navigator.locks && !!crypto.randomUUID").await;
        assert_eq!(secure, host == "127.0.0.1");
        a_day_of(&page, &mut server).await;
    }
    // The server knows the origin of its own pages.
    let mut server = server("https://shop.example", 3).await;
    let page = browser.open("own", &format!("{}/docs", server.base), "").await;
    a_day_of(&page, &mut server).await;
}

#[tokio::test]
async fn tabs_renew_a_login_one_at_a_time() {
    let browser = Chromium::start().await;
    for host in ["127.0.0.1", "shop.test"] {
        let origin = browser.origin(host);
        // Renewed after 2.2 s, by timers of both tabs.
        let server = server(&origin, 4).await;
        let (one, other) = (browser.open(host, &origin, "").await, browser.open(host, &origin, "").await);
        load(&one, &server).await;
        load(&other, &server).await;
        let began = Instant::now();
        log_in(&one, &server.account("buyer").await).await;
        other.until("live.user").await;
        let asked = async || {
            let mut sum = 0;
            for page in [&one, &other] {
                sum += page.run("return asked('/auth/refresh')").await.as_u64().expect("a number");
            }
            sum
        };
        while asked().await < 4 {
            one.run("await new Promise((go) => setTimeout(go, 100))").await;
        }
        // Separately they would have requested as many in half the time.
        assert!(began.elapsed() > Duration::from_millis(3 * 2_200), "{host}: {:?}", began.elapsed());
        let me = "return (await Promise.all([1, 2, 3].map(() => live.request('GET', '/api/v1/users/me')))).map(({ id }) => id)";
        assert_eq!(one.run(me).await, other.run(me).await);

        // A logout ends all tabs, with one message in each.
        one.run("await live.logout()").await;
        other.until("told.some(({ type }) => type === 'logout')").await;
        let told = async |page: &Page<'_>| page.run("return told.filter(({ type }) => type === 'logout')").await;
        assert_eq!(told(&one).await, json!([{"type": "logout", "reason": "user"}]));
        assert_eq!(told(&other).await, json!([{"type": "logout", "reason": "elsewhere"}]));
        let left = "return [live.user, Object.keys(localStorage).filter((name) => name.endsWith('login')).length]";
        assert_eq!(one.run(left).await, json!([null, 0]));
    }
}

/// Replaces an answer by one that a test cannot provoke on the real server.
fn stub(path: &str, answer: &str) -> String {
    format!(
        "globalThis.real ??= fetch; globalThis.fetch = (url, init) => url.endsWith('{path}') ? (globalThis.stubbed = (globalThis.stubbed ?? 0) + 1, {answer}) : real(url, init);"
    )
}

#[tokio::test]
async fn a_refused_token_ends_the_login_once() {
    let browser = Chromium::start().await;
    let origin = browser.origin("shop.test");
    let server = server(&origin, 900).await;
    let page = browser.open("refused", &origin, "").await;
    load(&page, &server).await;
    let buyer = server.account("buyer").await;
    let (_, drop) = server.live_drop(5, json!({})).await;
    let refusal =
        |code: &str| format!("Promise.resolve(new Response(JSON.stringify({{ code: '{code}' }}), {{ status: 401 }}))");

    // Both tokens are unknown now.
    log_in(&page, &buyer).await;
    watch(&page, &drop).await;
    page.run(
        "const name = `livedrop:${live.base}:login`;
         localStorage.setItem(name, JSON.stringify({ ...JSON.parse(localStorage.getItem(name)), access_token: 'x', refresh_token: 'y' }));",
    )
    .await;
    let failed =
        page.run("return failure(Promise.all([1, 2, 3].map(() => live.request('GET', '/api/v1/users/me'))))").await;
    assert_eq!((&failed["status"], &failed["code"]), (&json!(401), &json!("unauthenticated")));
    let logouts = "told.filter(({ type }) => type === 'logout').map(({ reason }) => reason)";
    assert_eq!(page.run(&format!("return {logouts}")).await, json!(["expired"]));
    assert_eq!(page.run("return told.at(-2)").await, json!({"type": "stopped", "reason": "logout"}));
    assert_eq!(page.run("return [live.user, asked('/auth/refresh')]").await, json!([null, 1]));

    // A new token that is refused as well.
    log_in(&page, &buyer).await;
    page.run(&stub("/users/me", &refusal("unauthenticated"))).await;
    let failed = page.run("return failure(live.request('GET', '/api/v1/users/me'))").await;
    assert_eq!(failed["code"], "unauthenticated");
    assert_eq!(
        page.run(&format!("return [{logouts}, stubbed, asked('/auth/refresh')]")).await,
        json!([["expired", "refused"], 2, 2])
    );

    // A revoked token is not exchanged.
    log_in(&page, &buyer).await;
    page.run(&format!("stubbed = 0; {}", stub("/users/me", &refusal("token_revoked")))).await;
    page.run("return failure(live.request('GET', '/api/v1/users/me'))").await;
    assert_eq!(
        page.run(&format!("return [{logouts}, stubbed, asked('/auth/refresh')]")).await,
        json!([["expired", "refused", "revoked"], 1, 2])
    );
    // The client stops sending requests.
    let quiet = "const before = performance.getEntriesByType('resource').length; await new Promise((go) => setTimeout(go, 3000));
                 return performance.getEntriesByType('resource').length - before";
    assert_eq!(page.run(quiet).await, 0);
}

/// Fake sockets that authenticate, and close with the next entry of `closes`.
const SOCKETS: &str = "
    globalThis.sockets = [];
    globalThis.closes = [];
    globalThis.WebSocket = class {
      static OPEN = 1;
      readyState = 1;
      constructor(url) {
        sockets.push({ url, at: performance.now() });
        const say = (message) => this.onmessage?.({ data: JSON.stringify(message) });
        setTimeout(() => {
          const next = closes.shift();
          say({ type: 'hello', server_time: new Date(live.now()).toISOString(), heartbeat_ms: 25000, reconnect: { min_ms: 100, max_ms: 200 } });
          if (!next?.before) say({ type: 'authenticated', id: 'last' });
          if (next) this.onclose?.({ code: next.code, reason: JSON.stringify({ retry_ms: next.retry_ms }) });
        }, 20);
      }
      send() {}
      close() {}
    };";

#[tokio::test]
async fn closes_are_answered_as_they_are_meant() {
    let browser = Chromium::start().await;
    let origin = browser.origin("shop.test");
    let server = server(&origin, 900).await;
    let page = browser.open("closes", &origin, "").await;
    load(&page, &server).await;
    let buyer = server.account("buyer").await;
    page.run(SOCKETS).await;
    let begin = async |closes: Value| {
        log_in(&page, &buyer).await;
        let script = format!(
            "told.length = 0; sockets.length = 0; closes.push(...{closes}); globalThis.unwatch = live.watch(['drop:x'], () => {{}})"
        );
        page.run(&script).await;
    };
    let quiet = "const before = sockets.length; await new Promise((go) => setTimeout(go, 2500)); return sockets.length - before";
    let told = "return told.map(({ type, reason, code }) => [type, reason, code].filter((one) => one !== undefined))";

    // Errors of the client: a repeat would end the same way.
    for code in [1002, 1007, 1009, 4400] {
        begin(json!([{"code": code}])).await;
        page.until("told.some(({ type }) => type === 'stopped')").await;
        assert_eq!(page.run(told).await, json!([["online"], ["stopped", "closed", code]]));
        assert_eq!((page.run(quiet).await, page.run("return sockets.length").await), (json!(0), json!(1)), "{code}");
        page.run("unwatch()").await;
    }
    // Temporary closes: the client reconnects after the given time, with its last event's id.
    for code in [1012, 4000, 4001] {
        begin(json!([{"code": code, "retry_ms": 700}])).await;
        page.until("sockets.length === 2").await;
        let waited = page.run("return sockets[1].at - sockets[0].at").await.as_f64().expect("a time");
        assert!(waited >= 700.0, "{code} after {waited} ms");
        assert!(page.run("return sockets[1].url").await.as_str().expect("an address").contains("since=last"));
        page.run("unwatch()").await;
    }
    begin(json!([{"code": 1006}])).await;
    page.until("sockets.length === 2").await;
    page.run("unwatch()").await;
    // An expired token: it is renewed at once.
    let before = page.run("return asked('/auth/refresh')").await.as_u64().expect("a number");
    begin(json!([{"code": 4401}])).await;
    page.until("sockets.length === 2").await;
    assert_eq!(page.run("return asked('/auth/refresh')").await, before + 1);
    assert!(page.run("return live.user").await.is_object());
    page.run("unwatch()").await;
    // A new token that is refused as well.
    begin(json!([{"code": 4401, "before": true}, {"code": 4401, "before": true}, {"code": 4401, "before": true}]))
        .await;
    page.until("told.some(({ type }) => type === 'logout')").await;
    assert_eq!(page.run("return told.at(-1).reason").await, "refused");
    assert_eq!((page.run(quiet).await, page.run("return sockets.length").await), (json!(0), json!(2)));
    page.run("unwatch(); closes.length = 0").await;
    // The login was revoked.
    begin(json!([{"code": 4403}])).await;
    page.until("told.some(({ type }) => type === 'logout')").await;
    assert_eq!(page.run(told).await, json!([["online"], ["stopped", "logout"], ["logout", "revoked"]]));
    assert_eq!((page.run(quiet).await, page.run("return sockets.length").await), (json!(0), json!(1)));
}

/// Ends every login of an account, from another client.
async fn log_out_everywhere(server: &Server, who: &Account) {
    let login = json!({"email": who.email, "password": "correct horse"});
    let (status, session) = server.post("/auth/login", None, login).await;
    assert_eq!(status, 200, "{session}");
    let token = session["access_token"].as_str().expect("a token");
    let request = server.http.post(server.url("/auth/logout-everywhere")).bearer_auth(token);
    assert_eq!(request.send().await.expect("an answer").status(), 204);
}

#[tokio::test]
async fn a_login_that_is_ended_elsewhere_ends_here() {
    let browser = Chromium::start().await;
    let origin = browser.origin("shop.test");
    let server = server(&origin, 900).await;
    let page = browser.open("revoked", &origin, "").await;
    load(&page, &server).await;
    let buyer = server.account("buyer").await;
    let (_, drop) = server.live_drop(5, json!({})).await;
    log_in(&page, &buyer).await;
    watch(&page, &drop).await;
    log_out_everywhere(&server, &buyer).await;
    page.until("told.some(({ type }) => type === 'logout')").await;
    let told = "return told.map(({ type, reason }) => [type, reason ?? null])";
    assert_eq!(
        page.run(told).await,
        json!([["login", null], ["online", null], ["stopped", "logout"], ["logout", "revoked"]])
    );
    let quiet = "const before = performance.getEntriesByType('resource').length; await new Promise((go) => setTimeout(go, 2500));
                 return performance.getEntriesByType('resource').length - before";
    assert_eq!(page.run(quiet).await, 0);
    // Without a connection, the next request shows it.
    page.run("unwatch(); told.length = 0").await;
    log_in(&page, &buyer).await;
    log_out_everywhere(&server, &buyer).await;
    let failed = page.run("return failure(live.request('GET', '/api/v1/users/me'))").await;
    assert_eq!((&failed["status"], &failed["code"]), (&json!(401), &json!("token_revoked")));
    assert_eq!(page.run(told).await, json!([["login", null], ["logout", "revoked"]]));
    assert_eq!(page.run("return [live.user, asked('/auth/refresh')]").await, json!([null, 0]));
}

#[tokio::test]
async fn a_refresh_that_must_wait_keeps_the_login() {
    let browser = Chromium::start().await;
    let origin = browser.origin("shop.test");
    let server = server(&origin, 2).await;
    let page = browser.open("waits", &origin, "").await;
    load(&page, &server).await;
    let away = "Promise.resolve(new Response(JSON.stringify({ code: 'database_unavailable' }), { status: 503, headers: { 'retry-after': '2' } }))";
    page.run(&stub("/auth/refresh", away)).await;
    log_in(&page, &server.account("buyer").await).await;
    page.until("globalThis.stubbed >= 1").await;
    let began = page.run("return performance.now()").await.as_f64().expect("a time");
    page.until("globalThis.stubbed >= 2").await;
    let waited = page.run("return performance.now()").await.as_f64().expect("a time") - began;
    assert!(waited > 1_800.0, "asked again after {waited} ms, and not after two seconds");
    assert!(page.run("return live.user").await.is_object());
    assert_eq!(page.run("return told.map(({ type }) => type)").await, json!(["login"]));
    page.run("globalThis.fetch = real").await;
    page.until("asked('/auth/refresh') >= 1").await;
    page.run("return live.request('GET', '/api/v1/users/me')").await;
}

#[tokio::test]
async fn a_countdown_is_right_on_a_device_whose_clock_is_wrong() {
    let browser = Chromium::start().await;
    let origin = browser.origin("shop.test");
    let server = server(&origin, 900).await;
    let (_, drop) = server.live_drop(5, json!({})).await;
    // Two hours slow, and from the third second on a day fast.
    let wrong = "const now = Date.now.bind(Date), began = now(); Date.now = () => now() + (now() - began < 3000 ? -7200000 : 86400000);";
    let page = browser.open("clock", &origin, wrong).await;
    load(&page, &server).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    let ends = now + 6_000;
    page.run(&format!("globalThis.left = []; live.countdown({ends}, (ms) => left.push([ms, performance.now()]))"))
        .await;
    page.until("live.synced").await;
    watch(&page, &drop).await;
    let difference = page.run("return live.now()").await.as_f64().expect("a time")
        - SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as f64;
    assert!(difference.abs() < 700.0, "wrong by {difference} ms");
    page.until("left.at(-1)[0] === 0").await;
    let late = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as f64 - ends as f64;
    assert!((-700.0..2_000.0).contains(&late), "it ended {late} ms late");
    let left = page.run("return left").await;
    let left: Vec<(f64, f64)> = serde_json::from_value(left).expect("pairs of numbers");
    assert!((7..=20).contains(&left.len()), "{left:?}");
    for pair in left.windows(2) {
        let (shown, passed) = (pair[0].0 - pair[1].0, pair[1].1 - pair[0].1);
        // The client corrects its clock by at most a tenth.
        assert!(shown >= 0.0 && (shown - passed).abs() <= passed / 10.0 + 5.0, "{pair:?} of {left:?}");
    }
    // No timer is left behind.
    let count = left.len();
    assert_eq!(page.run("await new Promise((go) => setTimeout(go, 1500)); return left.length").await, count);
}

#[tokio::test]
async fn a_reload_never_buys_twice() {
    let browser = Chromium::start().await;
    let origin = browser.origin("shop.test");
    let server = server(&origin, 900).await;
    let (_, drop) = server.live_drop(50, json!({})).await;
    let buyer = server.account("buyer").await;
    let page = browser.open("buyer", &origin, "").await;
    load(&page, &server).await;
    log_in(&page, &buyer).await;
    let order = format!("live.order({{ drop_id: '{drop}', quantity: 1, payment_method: 'pm_sandbox_ok' }})");

    // The order arrives; its answer does not.
    page.run(
        "globalThis.real = fetch;
         globalThis.fetch = async (url, init) => { const answer = await real(url, init); if (url.endsWith('/orders')) { arrived = true; await new Promise(() => {}); } return answer; };
         globalThis.arrived = false;",
    )
    .await;
    page.run(&format!("void {order}")).await;
    page.until("arrived").await;
    page.reload().await;
    load(&page, &server).await;
    assert_eq!(page.run("return live.pendingOrders().length").await, 1);
    // Another order for that drop waits until the first one's outcome is known.
    let other = page.run(&format!("return failure(live.order({{ drop_id: '{drop}', quantity: 2 }}))")).await;
    assert_eq!(other["code"], "order_pending");
    let resumed = page.run("return live.resumeOrders()").await;
    assert_eq!(resumed[0]["result"]["status"], "confirmed", "{resumed}");
    let (_, orders) = server.get("/users/me/orders", Some(&buyer)).await;
    assert_eq!(orders["items"].as_array().map(Vec::len), Some(1), "{orders}");
    assert_eq!(orders["items"][0]["id"], resumed[0]["result"]["id"]);
    assert_eq!(page.run("return live.pendingOrders().length").await, 0);

    // A second tap, and another tab at the same time.
    let tab = browser.open("buyer", &origin, "").await;
    load(&tab, &server).await;
    tab.run(&format!("globalThis.bought = new Promise((done) => addEventListener('storage', ({{ key }}) => key === 'go' && done({order})))")).await;
    let taps = page
        .run(&format!(
            "localStorage.setItem('go', '1'); return (await Promise.all([{order}, {order}])).map(({{ id }}) => id)"
        ))
        .await;
    let theirs = tab.run("return (await bought).id").await;
    assert_eq!(taps[0], taps[1]);
    let (_, orders) = server.get("/users/me/orders", Some(&buyer)).await;
    // The other tab got the same order, or came after it and bought its own.
    let expected = if theirs == taps[0] { 2 } else { 3 };
    assert_eq!(orders["items"].as_array().map(Vec::len), Some(expected), "{orders}");

    // The server asks to retry later, and the client does.
    let busy = "globalThis.busy ? real(url, init) : (globalThis.busy = true, Promise.resolve(new Response('{}', { status: 503, headers: { 'retry-after': '1' } })))";
    page.run(&stub("/orders", busy)).await;
    let patient = page.run(&format!("const began = performance.now(); const {{ status }} = await {order}; return [status, performance.now() - began]")).await;
    assert!(patient[0] == "confirmed" && patient[1].as_f64() >= Some(1_000.0), "{patient}");

    // A refusal is an outcome: the next attempt is another order.
    let declined =
        format!("failure(live.order({{ drop_id: '{drop}', quantity: 1, payment_method: 'pm_sandbox_declined' }}))");
    let refused = page.run(&format!("return {declined}")).await;
    assert_eq!((&refused["code"], &refused["outcomeUnknown"]), (&json!("payment_declined"), &json!(false)));
    assert_eq!(page.run("return live.pendingOrders().length").await, 0);
}

#[tokio::test]
async fn an_order_is_sent_again_until_the_server_is_back() {
    let browser = Chromium::start().await;
    let origin = browser.origin("shop.test");
    let mut server = server(&origin, 900).await;
    let (_, drop) = server.live_drop(5, json!({})).await;
    let buyer = server.account("buyer").await;
    let page = browser.open("patient", &origin, "").await;
    load(&page, &server).await;
    log_in(&page, &buyer).await;
    server.kill();
    page.run(&format!("globalThis.done = failure(live.order({{ drop_id: '{drop}', quantity: 1 }}))")).await;
    page.until("asked('/orders') >= 1 || live.pendingOrders().length === 1").await;
    server.restart();
    let done = page.run("return done").await;
    assert_eq!(done["value"]["status"], "reserved", "{done}");
    let (_, orders) = server.get("/users/me/orders", Some(&buyer)).await;
    assert_eq!(orders["items"].as_array().map(Vec::len), Some(1), "{orders}");
}

#[tokio::test]
async fn a_slow_handler_misses_nothing_and_holds_little() {
    let browser = Chromium::start().await;
    let origin = browser.origin("shop.test");
    let server = server(&origin, 900).await;
    let (maker, drop) = server.live_drop(5, json!({})).await;
    let page = browser.open("slow", &origin, "").await;
    load(&page, &server).await;
    page.run(&format!(
        "globalThis.go = () => {{}}; const wait = new Promise((done) => (globalThis.go = done));
         live.watch(['drop:{drop}'], async (message) => {{ if (message.type !== 'snapshot') await wait; heard.push(message); }})"
    ))
    .await;
    page.until("told.some(({ type }) => type === 'online')").await;
    for _ in 0..400 {
        let (status, answer) =
            server.post(&format!("/drops/{drop}/restock"), Some(&maker), json!({"quantity": 1})).await;
        assert_eq!(status, 200, "{answer}");
    }
    page.run("go()").await;
    page.until("heard.findLast(({ stock }) => stock)?.stock.total === 405 || heard.findLast(({ type }) => type === 'snapshot').drops[0].stock.total === 405").await;
    let back: Value = page.run("return told.filter(({ type }) => type === 'online').length").await;
    assert!(back.as_u64() >= Some(2), "it was not too much: {back}");
    // The received events have no gap, from the snapshots on.
    let totals = page.run("return heard.flatMap(({ type, stock, drops }) => type === 'restocked' ? [stock.total] : type === 'snapshot' ? [-drops[0].stock.total] : [])").await;
    let totals: Vec<i64> = serde_json::from_value(totals).expect("numbers");
    for pair in totals.windows(2) {
        assert!(pair[1] < 0 || pair[1] == pair[0].abs() + 1, "{pair:?} of {totals:?}");
    }
}

#[tokio::test]
async fn a_refused_origin_is_told_to_the_page_and_to_the_operator() {
    let browser = Chromium::start().await;
    let origin = browser.origin("shop.test");
    let extra = ["--allowed-origins", "https://shop.example"].map(str::to_owned).to_vec();
    let server = Server::set_up(Setup { extra, quiet: true, ..Setup::default() });
    let (_, drop) = server.live_drop(5, json!({})).await;
    let page = browser.open("refused", &origin, "").await;
    load(&page, &server).await;
    let failed = page.run("return failure(live.sync())").await;
    assert_eq!((&failed["status"], &failed["code"]), (&json!(0), &json!("origin_refused")));
    page.run(&format!("live.watch(['drop:{drop}'], (message) => void heard.push(message))")).await;
    page.until("told.some(({ type }) => type === 'stopped')").await;
    assert_eq!(page.run("return [told.at(-1).reason, heard.length]").await, json!(["origin_refused", 0]));
    let log = server.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(&origin)).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("WARN") && lines[0].contains("allowed_origins"), "{}", lines[0]);

    // A WebSocket and a preflight, as browsers send them.
    let upgrade = server.http.get(server.url("/notifications")).header("origin", "https://socket.example");
    let upgrade = upgrade.header("connection", "upgrade").header("upgrade", "websocket");
    let upgrade = upgrade.header("sec-websocket-version", "13").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    problem(answer(upgrade.send().await.expect("an answer")).await, 403, "forbidden");
    let preflight =
        server.http.request(Method::OPTIONS, server.url("/orders")).header("origin", "https://asks.example");
    let preflight = preflight.header("access-control-request-method", "POST").send().await.expect("an answer");
    problem(answer(preflight).await, 403, "forbidden");
    let log = server.log();
    for refused in ["https://socket.example", "https://asks.example"] {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(refused)).collect();
        assert!(lines.len() == 1 && lines[0].contains("allowed_origins"), "{refused}: {log}");
    }
}
