//! A server behind a proxy: checks the origin of pages with and without the original `Host`.
//!
//! ```text
//! cargo run --example behind_a_proxy
//! ```
//!
//! | Path | Proxy | nginx |
//! | --- | --- | --- |
//! | `/ws` | keeps `Host` | `proxy_set_header Host $http_host;` |
//! | `/x-forwarded-host` | rewrites `Host` and sends the original in `X-Forwarded-Host` | `proxy_set_header X-Forwarded-Host $http_host;` |
//! | `/forwarded` | rewrites `Host` and sends the original in `Forwarded` (RFC 7239) | `proxy_set_header Forwarded 'host="$http_host"';` |
//! | `/two-proxies` | is behind another proxy and appends to its `X-Forwarded-Host` | `proxy_set_header X-Forwarded-Host "$http_x_forwarded_host, $http_host";` |
//! | `/cookies` | any | |
//!
//! All of them also need `proxy_http_version 1.1;`, `proxy_set_header Upgrade $http_upgrade;` and
//! `proxy_set_header Connection "upgrade";`. Only the proxies may reach the server, because any other client
//! can forge these fields. `tests/proxies/run` tests it behind nginx and haproxy.

use std::{env, error::Error};

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tower_websocket::{BoxError, Echo, OriginPolicy, TrustedProxies, WebSocket, WebSocketLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt::init();
    let same_host = OriginPolicy::same_host();
    let one = TrustedProxies::number(1);
    let mut app = Router::new().route("/", get("WebSockets echo at several paths\n"));
    for (path, policy) in [
        ("/ws", same_host.clone()),
        (
            "/x-forwarded-host",
            same_host.clone().x_forwarded_host(one.clone()),
        ),
        ("/forwarded", same_host.clone().forwarded(one)),
        (
            "/two-proxies",
            same_host.x_forwarded_host(TrustedProxies::number(2)),
        ),
    ] {
        let layer = WebSocketLayer::new(Echo::new()).origin(policy);
        app = app.route_service(path, layer.into_service());
    }
    // Over HTTP/2 a browser sends one field per cookie. The handler sees them joined into one field.
    let cookies = WebSocketLayer::new(async |mut socket: WebSocket| {
        let cookies = socket.request().header("cookie").unwrap_or("none");
        let cookies = cookies.to_owned();
        socket.send(cookies).await?;
        Ok::<_, BoxError>(())
    });
    app = app.route_service("/cookies", cookies.into_service());

    let argument = env::args().nth(1).unwrap_or_else(|| "3000".to_owned());
    let address = match argument.parse::<u16>() {
        Ok(port) => format!("127.0.0.1:{port}"),
        Err(_) => argument,
    };
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}/", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
